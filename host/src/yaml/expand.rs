//! `${env:NAME}` and `${file:path}` inside a text; `$${` stands for `${`.

use std::fmt::{self, Write as _};
use std::path::Path;

/// A file that holds a secret holds little else.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where the values come from.
pub struct Sources<'a> {
    /// The folder that `${file:path}` is relative to.
    pub folder: &'a Path,
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A text, cut at its references.
enum Piece<'a> {
    Text(&'a str),
    Reference(&'a str),
}

/// The text with every reference replaced. The error never holds a value.
pub fn expand(text: &str, sources: &Sources<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::Reference(name) => expanded.push_str(&resolve(name, sources)?),
        }
    }
    Ok(expanded)
}

/// [`expand`] for a connection string. Inside a URI, the value of a user name, a password
/// or a parameter is percent-encoded, so that `@` or `/` in it separates nothing. In
/// keywords and values, and where a reference is more than that, it stays as it is.
pub fn expand_dsn(text: &str, sources: &Sources<'_>) -> Result<String, String> {
    let pieces = pieces(text)?;
    let literal = |pieces: &[Piece<'_>]| {
        let text = |piece: &Piece<'_>| if let Piece::Text(text) = piece { (*text).to_owned() } else { String::new() };
        pieces.iter().map(text).collect::<String>()
    };
    let mut expanded = String::with_capacity(text.len());
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::Reference(name) => {
                let (before, after) = pieces.split_at(index);
                let value = resolve(name, sources)?;
                match kept(&literal(before), &literal(after)) {
                    Some(kept) => encode(&value, kept, &mut expanded),
                    None => expanded.push_str(&value),
                }
            }
        }
    }
    Ok(expanded)
}

/// Which characters separate parts inside of a value that stands between `before` and
/// `after`; `None` where it is not encoded at all.
fn kept(before: &str, after: &str) -> Option<&'static str> {
    let inside = before.strip_prefix("postgresql://").or_else(|| before.strip_prefix("postgres://"))?;
    if let Some((_, parameters)) = inside.split_once('?') {
        let parameter = parameters.rsplit('&').next().unwrap_or_default();
        return parameter.contains('=').then_some("");
    }
    let (user, is_before_host) = after.split_once('@').map_or((after, false), |(user, _)| (user, true));
    if inside.contains(['/', '@']) || !is_before_host {
        return None;
    }
    // It may be a user name and a password, unless the text has a colon between them.
    Some(if inside.contains(':') || user.contains(':') { "" } else { ":" })
}

fn encode(value: &str, kept: &str, out: &mut String) {
    for character in value.chars() {
        if character.is_ascii_alphanumeric() || "-._~".contains(character) || kept.contains(character) {
            out.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            pieces.extend([Piece::Text(before), Piece::Text("${")]);
            rest = &reference[2..];
            continue;
        }
        let (name, after) = reference[2..].split_once('}').ok_or("`${` without `}`; write $${ where the text `${` itself is meant")?;
        pieces.extend([Piece::Text(before), Piece::Reference(name)]);
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn resolve(reference: &str, sources: &Sources<'_>) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) => (sources.env)(name)
            .ok_or_else(|| format!("the environment variable {name} is not set, or not UTF-8; set it, or remove ${{env:{name}}}")),
        Some(("file", path)) => file(&sources.folder.join(path)),
        _ => Err(format!("${{{reference}}} is not known; write ${{env:NAME}} or ${{file:path}}, or $${{ for the text `${{` itself")),
    }
}

fn file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("cannot read the file {shown}: {error}"))?;
    if !size.is_file() || size.len() > FILE_BYTES_MAX {
        return Err(format!("{shown} has to be a file of at most {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read the file {shown}: {error}"))?;
    // Editors end a file with a newline; no secret does.
    Ok(text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        let env = |name: &str| (name == "USER").then(|| "ann ${env:X}".to_owned());
        expand(text, &Sources { folder: Path::new("/nowhere"), env: &env })
    }

    #[test]
    fn references_are_replaced_once() {
        for (text, expected) in [
            ("", ""),
            ("plain $ } {", "plain $ } {"),
            ("a${env:USER}b", "aann ${env:X}b"),
            ("${env:USER}${env:USER}", "ann ${env:X}ann ${env:X}"),
            ("$${env:USER}", "${env:USER}"),
            ("$$${env:USER}", "$${env:USER}"),
        ] {
            assert_eq!(with(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_value_separates_nothing_in_a_uri() {
        const SECRET: &str = "p@s:s/w?o#r%d &=é";
        let env = |name: &str| match name {
            "P" => Some(SECRET.to_owned()),
            "BOTH" => Some("ann:p@ss/word".to_owned()),
            "HOST" => Some("db:5433".to_owned()),
            "DSN" => Some("postgresql://ann:p%40ss@db/app".to_owned()),
            _ => None,
        };
        let with = |text: &str| expand_dsn(text, &Sources { folder: Path::new("/nowhere"), env: &env }).unwrap();
        for text in [
            "postgresql://ann:${env:P}@db/app",
            "postgres://ann:x${env:P}y@${env:HOST}/app?sslmode=disable",
            "postgresql://${env:P}:${env:P}@db/app",
            "postgresql://ann@db/app?connect_timeout=3&password=${env:P}",
        ] {
            let parsed = crate::postgres::connect::parse(&with(text)).unwrap();
            let password = String::from_utf8_lossy(parsed.config.get_password().unwrap_or_default()).into_owned();
            assert_eq!(password.trim_matches(['x', 'y']), SECRET, "{text}");
            assert_eq!(parsed.servers[0].host.as_deref(), Some("db"), "{text}");
            assert_eq!(parsed.config.get_dbname(), Some("app"), "{text}");
        }
        for (text, expected) in [
            ("${env:DSN}", "postgresql://ann:p%40ss@db/app"),
            ("postgresql://${env:BOTH}@${env:HOST}/app", "postgresql://ann:p%40ss%2Fword@db:5433/app"),
            ("host=db password=${env:P}", "host=db password=p@s:s/w?o#r%d &=é"),
        ] {
            assert_eq!(with(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        for (text, expected) in [
            ("${env:USER", "`${` without `}`; write $${ where the text `${` itself is meant"),
            ("${USER}", "${USER} is not known; write ${env:NAME} or ${file:path}, or $${ for the text `${` itself"),
            ("${env:NO}", "the environment variable NO is not set, or not UTF-8; set it, or remove ${env:NO}"),
            ("${file:key}", "cannot read the file /nowhere/key: No such file or directory (os error 2)"),
        ] {
            assert_eq!(with(text).unwrap_err(), expected, "{text}");
        }
    }
}
