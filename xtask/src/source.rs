//! Rust source with comments and literals blanked out, so that a search finds code and nothing else.
//!
//! Where:  used by the checks of [`tidy`](crate::tidy).
//! Idea:   one pass over the characters; what is not code becomes spaces, line breaks stay, so line numbers hold.
//! Source: The Rust Reference, "Comments" and "Tokens".

/// `source` with every comment, string and character literal replaced by spaces of the same number of characters.
pub fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Lines (from 1) of `code` in which `word` stands as a whole identifier.
pub fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_word = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word);
    code.lines().enumerate().filter(|(_, line)| is_word(line)).map(|(i, _)| i + 1).collect()
}

/// Lines (from 1) of `code` that contain `pattern`.
pub fn lines_with(code: &str, pattern: &str) -> Vec<usize> {
    code.lines().enumerate().filter(|(_, line)| line.contains(pattern)).map(|(i, _)| i + 1).collect()
}

/// Where the comment or literal that starts at `at` ends, or `at` when none starts there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match (chars[at], next) {
        ('/', Some('/')) => find(chars, at, |c| c == '\n').unwrap_or(chars.len()),
        ('/', Some('*')) => block_comment_end(chars, at),
        ('"', _) => quoted_end(chars, at + 1, '"'),
        ('r', Some('"' | '#')) if !inside_word(chars, at) => raw_string_end(chars, at),
        ('\'', _) if is_char_literal(chars, at) => quoted_end(chars, at + 1, '\''),
        _ => at,
    }
}

fn find(chars: &[char], from: usize, found: impl Fn(char) -> bool) -> Option<usize> {
    (from..chars.len()).find(|&i| found(chars[i]))
}

/// Block comments nest.
fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_usize, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], mut i: usize, quote: char) -> usize {
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// `r"…"` and `r#"…"#`; `r#name` is an identifier and gives `at`.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let Some(open) = find(chars, at + 1, |c| c != '#') else { return at };
    if chars[open] != '"' {
        return at;
    }
    let n_hashes = open - at - 1;
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take_while(|&&c| c == '#').count() >= n_hashes;
    (open + 1..chars.len()).find(|&i| closes(i)).map_or(chars.len(), |i| i + 1 + n_hashes)
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_char_literal(chars: &[char], at: usize) -> bool {
    chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')
}

/// Whether `at` continues an identifier; a prefix as in `br"…"` is none.
fn inside_word(chars: &[char], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    let is_word = |i: usize| chars[i].is_alphanumeric() || chars[i] == '_';
    let is_prefix = matches!(chars[before], 'b' | 'c') && before.checked_sub(1).is_none_or(|i| !is_word(i));
    is_word(before) && !is_prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let check = |source: &str, expected: &str| {
            let code = code_only(source);
            assert_eq!(code.chars().count(), source.chars().count(), "{source}");
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
        };
        check("a // unsafe\nb", "a b");
        check("a /* x /* y */ z */ b", "a b");
        check(r#"f("un\"safe", 'x', '\'', '"') g"#, "f( , , , ) g");
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check(r###"let s = r#"unsafe " "#; t"###, "let s = ; t");
        check(r#"br"unsafe" bar"x""#, "b bar");
        check("r#type r#\"open", "r#type");
        check("\"open", "");
        check("/* open", "");
    }

    #[test]
    fn lines_keep_their_numbers() {
        let code = code_only("\"a\nb\"\n/*\n*/ unsafe {}\nunsafe_code\n");
        assert_eq!(lines_with_word(&code, "unsafe"), [4]);
        assert_eq!(lines_with(&code, "unsafe"), [4, 5]);
    }
}
