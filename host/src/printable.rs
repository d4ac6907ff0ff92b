//! Text of others on its way to a terminal or a log.

use std::fmt::Write as _;

/// The text with its control characters escaped, so that whoever wrote it can neither
/// forge lines nor steer a terminal; cut where more than `bytes_max` would be printed.
#[must_use]
pub fn printable(text: &str, bytes_max: usize) -> String {
    let mut printed = String::with_capacity(text.len().min(bytes_max));
    for character in text.chars() {
        let before = printed.len();
        if steers(character) {
            // `\n`, `\u{1b}`.
            _ = match character {
                '\n' | '\r' | '\t' => write!(printed, "{}", character.escape_default()),
                other => write!(printed, "{}", other.escape_unicode()),
            };
        } else {
            printed.push(character);
        }
        if printed.len() > bytes_max {
            printed.truncate(before);
            printed.push('…');
            break;
        }
    }
    printed
}

/// Control characters, and those that turn the direction of what follows.
fn steers(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A size in the largest unit that holds it exactly.
pub fn size(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        _ if bytes == 0 => "0B".into(),
        30.. => format!("{}GiB", bytes >> 30),
        20.. => format!("{}MiB", bytes >> 20),
        10.. => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(printable("a\n\u{1b}[31mb\u{7f}ü\u{202e}", 100), "a\\n\\u{1b}[31mb\\u{7f}ü\\u{202e}");
    }

    #[test]
    fn what_is_printed_is_bounded() {
        assert_eq!(printable("aüb", 2), "a…");
        assert_eq!(printable("aüb", 4), "aüb");
        assert_eq!(printable("\u{1b}\u{1b}", 10), "\\u{1b}…");
    }
}
