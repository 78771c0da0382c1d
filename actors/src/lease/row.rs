//! Where the row of a lease lies.
//!
//! A lease is updated by every batch. While something holds an old snapshot of the database, none of its versions can be
//! removed, and a look-up by key goes through all of them: after some minutes that is what a batch mostly does. Its owner knows
//! where it wrote the last version, and looks there first.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The place of a version of a row (`ctid`): only ever a guess, since the row may have been changed or moved meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowAt([u8; 6]);

impl<'a> FromSql<'a> for RowAt {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }
}

impl ToSql for RowAt {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }

    to_sql_checked!();
}
