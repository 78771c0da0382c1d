//! TLS to PostgreSQL: what `sslmode` asks for, as libpq defines it, and with which certificates.

use std::{fs, path::PathBuf};

use openssl::{
    error::ErrorStack,
    pkey::PKey,
    ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode, SslVersion},
    x509::{X509, store::X509StoreBuilder},
};
use postgres_openssl::MakeTlsConnector;
use thiserror::Error;
use tokio_postgres::config::SslMode;

const ROOT_CERT: &str = "DATABASE_TLS_ROOT_CERT";
const CLIENT_CERT: &str = "DATABASE_TLS_CLIENT_CERT";
const CLIENT_KEY: &str = "DATABASE_TLS_CLIENT_KEY";

/// The files that TLS to a database may need, all PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust in place of the system's.
    pub root_cert: Option<PathBuf>,
    /// Our own certificate, with what leads to its authority.
    pub client_cert: Option<PathBuf>,
    /// Its private key, without a pass phrase.
    pub client_key: Option<PathBuf>,
}

impl TlsFiles {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Connections cannot be made as secure as was asked for.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The URL asks for what does not exist or cannot be had.
    #[error("the database URL has sslmode={0}, expected disable, prefer, require, verify-ca or verify-full")]
    Mode(String),
    /// A certificate that any public authority gave to anybody would do: that protects from nothing.
    #[error("sslmode=verify-ca needs {ROOT_CERT}; to trust the system's authorities, use verify-full")]
    AnyAuthority,
    /// Neither is of use without the other.
    #[error("{CLIENT_CERT} and {CLIENT_KEY} go together: set both or none")]
    HalfAPair,
    /// A file cannot be read.
    #[error("cannot read {setting} at {}", path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("cannot use {setting} at {}: expected PEM", path.display())]
    Pem {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: ErrorStack,
    },
    /// The certificate, the key and OpenSSL do not agree.
    #[error("cannot set TLS up with the certificates given")]
    Setup(#[from] ErrorStack),
}

/// The words of `sslmode`, without libpq's `allow`, which protects from nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn parse(word: &str) -> Result<Self, TlsError> {
        match word {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(TlsError::Mode(word.to_owned())),
        }
    }
}

/// How much of the server's certificate has to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verify {
    Nothing,
    Authority,
    AuthorityAndName,
}

/// Takes `sslmode` out of a URL: the client library refuses the two words that verify.
pub(super) fn take_mode(url: &str) -> Result<(String, Option<Mode>), TlsError> {
    // A question mark before the last one may be part of a password.
    let Some((base, query)) = url.rsplit_once('?') else { return Ok((url.to_owned(), None)) };
    let mut mode = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix("sslmode=") {
            Some(word) => mode = Some(Mode::parse(word)?),
            None => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, mode))
}

/// The client library's part of `mode`, and what makes connections.
pub(super) fn connector(
    mode: Option<Mode>,
    files: &TlsFiles,
) -> Result<(SslMode, MakeTlsConnector), TlsError> {
    let (mode, verify) = plan(mode, files)?;
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    postgres_openssl::set_postgresql_alpn(&mut builder)?;
    if verify == Verify::Nothing {
        builder.set_verify(SslVerifyMode::NONE);
    } else {
        trust(&mut builder, files)?;
    }
    identify(&mut builder, files)?;
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _| {
        connection.set_verify_hostname(verify == Verify::AuthorityAndName);
        Ok(())
    });
    Ok((mode, connector))
}

fn plan(mode: Option<Mode>, files: &TlsFiles) -> Result<(SslMode, Verify), TlsError> {
    let authority = if files.root_cert.is_some() { Verify::Authority } else { Verify::Nothing };
    match mode {
        None if files.is_empty() => Ok((SslMode::Disable, Verify::Nothing)),
        Some(Mode::Disable) => Ok((SslMode::Disable, Verify::Nothing)),
        Some(Mode::Prefer) => Ok((SslMode::Prefer, authority)),
        Some(Mode::Require) => Ok((SslMode::Require, authority)),
        Some(Mode::VerifyCa) if files.root_cert.is_none() => Err(TlsError::AnyAuthority),
        Some(Mode::VerifyCa) => Ok((SslMode::Require, Verify::Authority)),
        // Whoever gives certificates without a word on how to use them wants to be safe.
        None | Some(Mode::VerifyFull) => Ok((SslMode::Require, Verify::AuthorityAndName)),
    }
}

fn trust(builder: &mut SslConnectorBuilder, files: &TlsFiles) -> Result<(), TlsError> {
    if let Some(path) = &files.root_cert {
        let mut store = X509StoreBuilder::new()?;
        for certificate in certificates(ROOT_CERT, path)? {
            store.add_cert(certificate)?;
        }
        builder.set_cert_store(store.build());
        return Ok(());
    }
    // An OpenSSL that was not built by the system does not know where the system keeps its authorities.
    let system = openssl_probe::probe();
    if let Some(file) = &system.cert_file {
        builder.set_ca_file(file)?;
    }
    for directory in &system.cert_dir {
        builder.load_verify_locations(None, Some(directory))?;
    }
    Ok(())
}

fn identify(builder: &mut SslConnectorBuilder, files: &TlsFiles) -> Result<(), TlsError> {
    let (certificate, key) = match (&files.client_cert, &files.client_key) {
        (None, None) => return Ok(()),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(TlsError::HalfAPair),
    };
    let pem = |source| TlsError::Pem { setting: CLIENT_KEY, path: key.clone(), source };
    // Without a callback OpenSSL would ask a terminal for a pass phrase.
    let read = PKey::private_key_from_pem_callback(&read(CLIENT_KEY, key)?, |_| Ok(0)).map_err(pem)?;
    for (at, certificate) in certificates(CLIENT_CERT, certificate)?.into_iter().enumerate() {
        if at == 0 {
            builder.set_certificate(&certificate)?;
        } else {
            builder.add_extra_chain_cert(certificate)?;
        }
    }
    builder.set_private_key(&read)?;
    Ok(builder.check_private_key()?)
}

fn certificates(setting: &'static str, path: &PathBuf) -> Result<Vec<X509>, TlsError> {
    let pem = |source| TlsError::Pem { setting, path: path.clone(), source };
    let certificates = X509::stack_from_pem(&read(setting, path)?).map_err(pem)?;
    if certificates.is_empty() { Err(pem(ErrorStack::get())) } else { Ok(certificates) }
}

fn read(setting: &'static str, path: &PathBuf) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { setting, path: path.clone(), source })
}

#[cfg(test)]
mod tests;
