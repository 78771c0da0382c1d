//! A certificate for a server on this machine: it vouches for itself, so it is also the authority to trust.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::{
        X509, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

/// Longer than any stack is kept.
const DAYS: u32 = 3_650;

/// The files of a certificate.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The certificate, PEM.
    pub(super) certificate: PathBuf,
    /// Its private key, PEM.
    pub(super) key: PathBuf,
    /// Both in one, the key first: how Kafka takes them.
    pub(super) both: PathBuf,
}

impl Files {
    pub(super) fn at(directory: &Path) -> Self {
        let file = |name| directory.join(name);
        Self { certificate: file("server.crt"), key: file("server.key"), both: file("server.pem") }
    }

    /// Makes them unless they are there; `server` becomes the name in the certificate.
    pub(super) fn make(&self, server: &str) -> Result<()> {
        // It is written last.
        if self.certificate.is_file() {
            return Ok(());
        }
        let (certificate, key) = issue(server).context("no certificate can be made")?;
        write(&self.key, &key)?;
        write(&self.both, &[key, certificate.clone()].concat())?;
        write(&self.certificate, &certificate)
    }
}

/// A certificate and its key, PEM.
fn issue(server: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&curve)?)?;
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, server)?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;

    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    let serial = serial.to_asn1_integer()?;
    certificate.set_serial_number(&serial)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_pubkey(&key)?;
    let (from, to) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(DAYS)?);
    certificate.set_not_before(&from)?;
    certificate.set_not_after(&to)?;
    certificate.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    let context = certificate.x509v3_context(None, None);
    let names = SubjectAlternativeName::new().ip("127.0.0.1").dns("localhost").build(&context)?;
    certificate.append_extension(names)?;
    certificate.sign(&key, MessageDigest::sha256())?;
    Ok((certificate.build().to_pem()?, key.private_key_to_pem_pkcs8()?))
}

/// PostgreSQL insists that nobody else may read its key.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?.write_all(bytes)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_vouches_for_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::at(directory.path());
        files.make("trial").expect("made");
        let pem = fs::read(&files.certificate).expect("there");
        let certificate = X509::from_pem(&pem).expect("PEM");
        let key = PKey::private_key_from_pem(&fs::read(&files.key).expect("there")).expect("PEM");
        assert!(certificate.public_key().expect("a key").public_eq(&key));
        assert!(certificate.verify(&key).expect("a signature"));
        files.make("trial").expect("there already");
        assert_eq!(fs::read(&files.certificate).expect("there"), pem);
    }
}
