//! `keep_alive`: how long a model stays in memory after a request.
//!
//! Source: Ollama's `docs/faq.md`: seconds as a number, a duration as text (`5m`, `1h30m`), negative for ever, 0 at once.

use std::time::Duration;

use serde::Deserialize;

use crate::api_error::{ApiError, ApiResult};
use crate::catalog::Stay;

/// As it stands in a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum KeepAlive {
    Seconds(f64),
    Text(String),
}

/// What a request says, if it says anything.
pub(super) fn stay(said: Option<&KeepAlive>) -> ApiResult<Stay> {
    let seconds = match said {
        None => return Ok(Stay::Usual),
        Some(KeepAlive::Seconds(seconds)) => Some(*seconds),
        Some(KeepAlive::Text(text)) => seconds(text),
    };
    match seconds {
        Some(seconds) if seconds < 0.0 => Ok(Stay::ForEver),
        Some(seconds) => Duration::try_from_secs_f64(seconds).map(Stay::For).map_err(|_| wrong()),
        None => Err(wrong()),
    }
}

fn wrong() -> ApiError {
    ApiError::invalid("keep_alive", "expected seconds, or a duration such as `5m` or `-1`")
}

/// `90`, `5m`, `1h30m`, `-1s`
fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if rest.len() > 64 {
        return None;
    }
    if let Ok(seconds) = rest.parse::<u64>() {
        return Some(sign * seconds as f64);
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let n_digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..n_digits].parse().ok()?;
        let unit = &rest[n_digits..];
        let n_letters = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        sum += number
            * match &unit[..n_letters] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &unit[n_letters..];
    }
    (!text.is_empty()).then_some(sign * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_ollama_reads_them() {
        let check = |json: &str, expected: Option<Stay>| {
            let said: KeepAlive = serde_json::from_str(json).unwrap();
            assert_eq!(stay(Some(&said)).ok(), expected, "{json}");
        };
        let seconds = |n: u64| Some(Stay::For(Duration::from_secs(n)));
        check("0", seconds(0));
        check("90", seconds(90));
        check("\"90\"", seconds(90));
        check("\"5m\"", seconds(300));
        check("\"1h30m\"", seconds(5400));
        check("\"1.5s\"", Some(Stay::For(Duration::from_millis(1500))));
        check("-1", Some(Stay::ForEver));
        check("\"-1\"", Some(Stay::ForEver));
        check("\"-5m\"", Some(Stay::ForEver));
        check("1e300", None);
        check("\"\"", None);
        check("\"soon\"", None);
        check("\"5 m\"", None);
        check("\"5\u{20ac}\"", None);
        assert_eq!(stay(None).unwrap(), Stay::Usual);
    }
}
