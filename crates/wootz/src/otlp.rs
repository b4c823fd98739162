//! Where spans go: what `--otlp` and OpenTelemetry's environment variables say.
//!
//! Where:  `wootz serve`; the variables are looked up by [`settings`](crate::settings).
//! Source: OpenTelemetry's specification, "SDK environment variables" and "OTLP exporter configuration".

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use wootz_serve::TelemetryOptions;

/// Looks up a variable; an empty one counts as not set.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The options, if somebody asks for spans. A flag wins over variables.
///
/// # Errors
/// A protocol that is not spoken here, headers that are none, an address beyond this machine where that is forbidden.
pub(crate) fn options(get: Lookup, flag: Option<&str>, offline: bool) -> Result<Option<TelemetryOptions>> {
    let either = |part: &str| {
        get(&format!("OTEL_EXPORTER_OTLP_TRACES_{part}"))
            .or_else(|| get(&format!("OTEL_EXPORTER_OTLP_{part}")))
    };
    let is_off = get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || get("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let endpoint = match (flag, get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), get("OTEL_EXPORTER_OTLP_ENDPOINT"))
    {
        (Some(url), ..) => with_path(url),
        _ if is_off => return Ok(None),
        (None, Some(url), _) => url,
        (None, None, Some(base)) => format!("{}/v1/traces", base.trim_end_matches('/')),
        (None, None, None) => return Ok(None),
    };
    if let Some(protocol) = either("PROTOCOL").filter(|protocol| protocol != "http/json") {
        bail!(
            "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/json, which is what is spoken here, got `{protocol}`"
        );
    }
    ensure!(
        !offline || is_loopback(&endpoint),
        "--offline forbids sending spans to {endpoint}\nhint: a collector on this machine is allowed"
    );
    let headers = match either("HEADERS") {
        Some(list) => pairs(&list).context("OTEL_EXPORTER_OTLP_HEADERS")?,
        None => Vec::new(),
    };
    let mut resource = match get("OTEL_RESOURCE_ATTRIBUTES") {
        Some(list) => pairs(&list).context("OTEL_RESOURCE_ATTRIBUTES")?,
        None => Vec::new(),
    };
    let name = get("OTEL_SERVICE_NAME");
    if name.is_some() || resource.iter().all(|(key, _)| key != "service.name") {
        resource.retain(|(key, _)| key != "service.name");
        resource.push(("service.name".into(), name.unwrap_or_else(|| "wootz".into())));
    }
    resource.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
    let interval = match get("OTEL_BSP_SCHEDULE_DELAY") {
        Some(text) => {
            let ms = text.parse().ok().filter(|ms| (1..=600_000).contains(ms));
            let wrong =
                || format!("OTEL_BSP_SCHEDULE_DELAY: expected 1 to 600000 milliseconds, got `{text}`");
            Duration::from_millis(ms.with_context(wrong)?)
        }
        None => Duration::from_secs(5),
    };
    Ok(Some(TelemetryOptions { endpoint, headers, resource, interval }))
}

/// A flag may name the collector alone.
fn with_path(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.trim_end_matches('/').contains('/') {
        true => url.to_owned(),
        false => format!("{}/v1/traces", url.trim_end_matches('/')),
    }
}

fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or("");
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `a=1,b=x%20y`
fn pairs(list: &str) -> Result<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (key, value) =
            part.split_once('=').with_context(|| format!("expected KEY=VALUE, got `{part}`"))?;
        Ok((key.trim().to_owned(), decoded(value.trim())?))
    };
    list.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// With `%20` and its like as the bytes that they mean.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte =
            after.get(..2).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).with_context(|| format!("`{text}` is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(
        variables: &[(&str, &str)],
        flag: Option<&str>,
        offline: bool,
    ) -> Result<Option<TelemetryOptions>> {
        let get =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        options(&get, flag, offline)
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        assert_eq!(with(&[], None, false).unwrap(), None);
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        let off = [endpoint, ("OTEL_SDK_DISABLED", "true")];
        assert_eq!(with(&off, None, false).unwrap(), None);
        assert_eq!(with(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], None, false).unwrap(), None);
        let told = |variables: &[(&str, &str)], flag| with(variables, flag, false).unwrap().unwrap().endpoint;
        assert_eq!(told(&[endpoint], None), "http://c:4318/v1/traces");
        assert_eq!(told(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/x")], None), "http://c:1/x");
        assert_eq!(told(&off, Some("http://localhost:4318")), "http://localhost:4318/v1/traces");
        assert_eq!(told(&[], Some("http://localhost:4318/own")), "http://localhost:4318/own");
    }

    #[test]
    fn variables_mean_what_others_mean_by_them() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=y"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=old,deployment.environment=test"),
            ("OTEL_SERVICE_NAME", "ours"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ];
        let options = with(&variables, None, true).unwrap().unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(options.headers, [pair("api-key", "a b"), pair("x", "y")]);
        assert_eq!(
            options.resource[..2],
            [pair("deployment.environment", "test"), pair("service.name", "ours")]
        );
        assert_eq!(options.interval, Duration::from_millis(100));
        let check = |variable: (&str, &str), said: &str| {
            let error = with(&[variables[0], variable], None, false).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{variable:?}: {error:#}");
        };
        check(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), "http/json");
        check(("OTEL_EXPORTER_OTLP_HEADERS", "none"), "KEY=VALUE");
        check(("OTEL_BSP_SCHEDULE_DELAY", "soon"), "milliseconds");
        assert!(with(&[], Some("http://collector:4318"), true).is_err(), "--offline");
    }
}
