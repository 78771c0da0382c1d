//! The payments service against a real PostgreSQL. TEST_POSTGRES_URL names a server and a user who may create databases.

mod money;
mod store;
