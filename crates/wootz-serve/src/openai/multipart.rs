//! `multipart/form-data`, taken apart in memory.
//!
//! Source: RFC 7578 and RFC 2046, §5.1.1, as clients of files APIs send it.

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub name: String,
    pub filename: Option<String>,
    pub content: &'a [u8],
}

/// Parts of one body.
const MAX_PARTS: usize = 16;

/// The boundary that a content type announces.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = rest.split(';').find_map(|setting| setting.trim().strip_prefix("boundary="))?;
    let value = value.trim_matches('"');
    (!value.is_empty() && value.len() <= 200).then(|| value.to_owned())
}

/// All parts; `None` if the body is not what its boundary says.
pub(super) fn parts<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<Part<'a>>> {
    let delimiter = format!("\r\n--{boundary}");
    let first = format!("--{boundary}");
    let mut rest = body.strip_prefix(first.as_bytes())?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let end = find(rest, delimiter.as_bytes())?;
        parts.push(part(&rest[..end])?);
        if parts.len() > MAX_PARTS {
            return None;
        }
        rest = &rest[end + delimiter.len()..];
    }
}

fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let head_end = find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let name = setting(disposition, "name")?;
    Some(Part { name, filename: setting(disposition, "filename"), content: &bytes[head_end + 4..] })
}

/// `key="value"` of a header.
fn setting(header: &str, key: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|setting| {
        let (name, value) = setting.trim().split_once('=')?;
        (name == key).then(|| value.trim_matches('"').chars().take(255).collect())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&byte| byte == first) {
        let at = from + at;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.jsonl\"\r\nContent-Type: text/plain\r\n\r\n{}\r\n--\r\n--b--\r\n";
        let parts = parts(body, "b").unwrap();
        assert_eq!((parts[0].name.as_str(), parts[0].content), ("purpose", &b"batch"[..]));
        assert_eq!((parts[1].filename.as_deref(), parts[1].content), (Some("x.jsonl"), &b"{}\r\n--"[..]));
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\""), Some("a b".into()));
        assert_eq!(boundary("application/json"), None);
    }

    #[test]
    fn a_broken_body_is_no_panic() {
        let whole = b"--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nx\r\n--b--";
        for end in 0..whole.len() - 1 {
            assert_eq!(
                parts(&whole[..end], "b").filter(|parts| !parts.is_empty() && end < whole.len() - 2),
                None,
                "{end}"
            );
        }
    }
}
