//! Names, ports and variables of the stack, in this one place. `docker-compose.yml` is compared with it by a test.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The gateway's port, unless told otherwise.
pub const GATEWAY_PORT: u16 = 8000;

/// Variable with Kafka's addresses, `host:port,…`.
pub const KAFKA_BROKERS: &str = "KAFKA_BROKERS";
/// Variable with Redis's URL.
pub const REDIS_URL: &str = "REDIS_URL";
/// Variable with the address a service answers customers or other services on.
pub const HTTP_LISTEN: &str = "HTTP_LISTEN";
/// Variable with the address of a service's admin port.
pub const ADMIN_LISTEN: &str = "ADMIN_LISTEN";
/// Variable that tells the gateway where the orders service is.
pub const ORDERS_URL: &str = "ORDERS_URL";
/// Variable that lets orders carry test tokens.
pub const TEST_TOKENS: &str = "TEST_TOKENS";
/// Variable with the requests a second that one caller may make.
pub const RATE_LIMIT: &str = "RATE_LIMIT";
/// Variable with the orders that one caller may follow at a time.
pub const STREAMS_PER_CALLER: &str = "STREAMS_PER_CALLER";
/// Variables that say where each service sends its traces, and which; empty or unset: nowhere.
pub const TRACES: [&str; 5] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
];
/// Variable with the URL of the gateway, for people and scripts.
pub const GATEWAY_URL: &str = "GATEWAY_URL";
/// Variable with a superuser's URL of the test server, for tests that make databases of their own.
pub const TEST_POSTGRES_URL: &str = "TEST_POSTGRES_URL";
/// Variable with the file of the certificate by which a test knows that server.
pub const TEST_POSTGRES_ROOT_CERT: &str = "TEST_POSTGRES_ROOT_CERT";
/// Variable with Kafka's address for tests that log in over TLS.
pub const TEST_KAFKA_SASL_BROKERS: &str = "TEST_KAFKA_SASL_BROKERS";
/// Variable with the file of the client properties that it takes there.
pub const TEST_KAFKA_CONFIG_FILE: &str = "TEST_KAFKA_CONFIG_FILE";

/// A kind of process of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The broker.
    Kafka,
    /// The database server.
    Postgres,
    /// The cache of hints.
    Redis,
    /// The orders service.
    Orders,
    /// The payments service.
    Payments,
    /// The delivery service.
    Delivery,
    /// The HTTP edge.
    Gateway,
}

/// What a service is called and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its role.
    pub role: Role,
    /// Database it owns, with the variable that carries its URL.
    pub database: Option<Database>,
    /// Port it answers HTTP on in a container.
    pub http_port: Option<u16>,
    /// Admin port in a container.
    pub admin_port: u16,
    /// Other variables of the stack that it reads.
    pub reads: &'static [&'static str],
    /// Settings of its own that a person may give the stack from outside.
    pub settings: &'static [&'static str],
}

/// A service's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: &'static str,
    /// The variable with its URL.
    pub variable: &'static str,
}

/// The databases, one for each service that keeps state.
pub const DATABASES: [Database; 3] = [
    Database { name: "orders", variable: "ORDERS_DATABASE_URL" },
    Database { name: "payments", variable: "PAYMENTS_DATABASE_URL" },
    Database { name: "delivery", variable: "DELIVERY_DATABASE_URL" },
];

/// The services, in the order in which they are shown.
pub const SERVICES: [Service; 4] = [
    Service {
        role: Role::Gateway,
        database: None,
        http_port: Some(GATEWAY_PORT),
        admin_port: 9100,
        reads: &[ORDERS_URL, RATE_LIMIT, STREAMS_PER_CALLER],
        settings: &[
            "GATEWAY_TOKEN",
            "JWT_ALGORITHM",
            "JWT_AUDIENCE",
            "JWT_HS256_SECRET",
            "JWT_ISSUER",
            "JWT_JWKS_FILE",
        ],
    },
    Service {
        role: Role::Orders,
        database: Some(DATABASES[0]),
        http_port: Some(8081),
        admin_port: 9101,
        reads: &[KAFKA_BROKERS, REDIS_URL, TEST_TOKENS],
        settings: &["GATEWAY_TOKEN", "ORDER_TIMEOUT_S", "PROVIDER_MAX_AMOUNT_CENTS"],
    },
    Service {
        role: Role::Payments,
        database: Some(DATABASES[1]),
        http_port: None,
        admin_port: 9102,
        reads: &[KAFKA_BROKERS, REDIS_URL, TEST_TOKENS],
        settings: &["PROVIDER_DECLINE_RATE", "PROVIDER_MAX_AMOUNT_CENTS"],
    },
    Service {
        role: Role::Delivery,
        database: Some(DATABASES[2]),
        http_port: None,
        admin_port: 9103,
        reads: &[KAFKA_BROKERS, REDIS_URL, TEST_TOKENS],
        settings: &[],
    },
];

impl Role {
    /// The servers everything stands on.
    pub const SERVERS: [Self; 3] = [Self::Kafka, Self::Postgres, Self::Redis];
    /// Everything, in the order in which it is shown.
    pub const ALL: [Self; 7] = [
        Self::Kafka,
        Self::Postgres,
        Self::Redis,
        Self::Gateway,
        Self::Orders,
        Self::Payments,
        Self::Delivery,
    ];

    /// Its name: of the process, of the container, of the binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Orders => "orders",
            Self::Payments => "payments",
            Self::Delivery => "delivery",
            Self::Gateway => "gateway",
        }
    }

    /// The role called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// What is known of it if it is a service of ours.
    pub fn service(self) -> Option<Service> {
        SERVICES.into_iter().find(|service| service.role == self)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How an instance is called in file names, log prefixes and messages: `payments`, a second one `payments-2`.
pub fn label(role: Role, instance: u32) -> String {
    if instance == 1 { role.to_string() } else { format!("{role}-{instance}") }
}

/// The variable with the admin URL of an instance: `PAYMENTS_ADMIN_URL`, of a second one `PAYMENTS_2_ADMIN_URL`.
pub fn admin_variable(role: Role, instance: u32) -> String {
    let name = role.name().to_uppercase();
    if instance == 1 { format!("{name}_ADMIN_URL") } else { format!("{name}_{instance}_ADMIN_URL") }
}
