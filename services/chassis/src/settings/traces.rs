//! Where traces go.

use axum::http::Uri;
use clap::Args;

use crate::traces::Sampler;

/// Where traces go. The names are OpenTelemetry's; `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT` and
/// `OTEL_RESOURCE_ATTRIBUTES` are read from the environment as well.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Traces")]
pub struct TracesArgs {
    /// Where spans go, by OTLP over HTTP in protobuf, such as http://localhost:4318: they are posted to `/v1/traces` there. Empty or
    /// unset: nowhere, and nothing is done for them.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_parser = endpoint)]
    pub otel_exporter_otlp_endpoint: Option<Uri>,
    /// The same for traces alone, with its path.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value_parser = endpoint)]
    pub otel_exporter_otlp_traces_endpoint: Option<Uri>,
    /// The service's name in traces: by default its own.
    #[arg(long, env = "OTEL_SERVICE_NAME")]
    pub otel_service_name: Option<String>,
    /// Which traces are told.
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_enum, default_value_t = Sampler::ParentAlwaysOn)]
    pub otel_traces_sampler: Sampler,
    /// The part of traces that the samplers with `traceidratio` tell, from 0 to 1.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_parser = ratio, default_value_t = 1.0)]
    pub otel_traces_sampler_arg: f64,
}

impl TracesArgs {
    /// Where spans are posted to, if anywhere.
    pub fn target(&self) -> Option<String> {
        let of_all = |base: &Uri| format!("{}/v1/traces", base.to_string().trim_end_matches('/'));
        let own = self.otel_exporter_otlp_traces_endpoint.as_ref().map(ToString::to_string);
        own.or_else(|| self.otel_exporter_otlp_endpoint.as_ref().map(of_all))
    }
}

/// An address may be logged: it holds no password. The error does not repeat it.
fn endpoint(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    let authority = uri.authority().map(|authority| authority.as_str().to_owned());
    match (uri.scheme_str(), authority, uri.query()) {
        (_, Some(authority), _) if authority.contains('@') => {
            Err("a password belongs into OTEL_EXPORTER_OTLP_HEADERS, not into an address".to_owned())
        }
        (Some("http"), Some(_), None) => Ok(uri),
        (Some("https"), ..) => {
            Err("only http:// is spoken: send to a collector on this machine, which speaks TLS to where it passes spans on"
                .to_owned())
        }
        _ => Err("expected http://host:port".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("not a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traces: TracesArgs,
    }

    fn parse(args: &[&str]) -> Result<TracesArgs, String> {
        let args = ["service"].iter().chain(args);
        Line::try_parse_from(args).map(|line| line.traces).map_err(|error| error.to_string())
    }

    #[test]
    fn traces_go_where_they_are_told_to() {
        assert_eq!(parse(&[]).map(|traces| traces.target()), Ok(None));
        for (base, target) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("http://host/tenant", "http://host/tenant/v1/traces"),
        ] {
            let traces = parse(&["--otel-exporter-otlp-endpoint", base]);
            assert_eq!(traces.map(|traces| traces.target()), Ok(Some(target.to_owned())));
        }
        let both = [
            "--otel-exporter-otlp-endpoint",
            "http://a",
            "--otel-exporter-otlp-traces-endpoint",
            "http://b/x",
        ];
        assert_eq!(parse(&both).map(|traces| traces.target()), Ok(Some("http://b/x".to_owned())));
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused_in_words() {
        for (endpoint, words) in [
            ("https://host:4318", "a collector on this machine"),
            ("localhost:4318", "expected http://host:port"),
            ("ftp://host", "expected http://host:port"),
            ("http://user:secret@host", "OTEL_EXPORTER_OTLP_HEADERS"),
        ] {
            let error = parse(&["--otel-exporter-otlp-endpoint", endpoint]).expect_err(endpoint);
            assert!(error.contains(words), "{error}");
        }
        for ratio in ["1.5", "-1", "NaN", "much"] {
            assert!(parse(&[&format!("--otel-traces-sampler-arg={ratio}")]).is_err(), "{ratio}");
        }
    }
}
