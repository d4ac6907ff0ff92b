//! `${env:NAME}` and `${file:path}` inside a text; `$${` stands for `${`.

use std::path::Path;

/// A file that holds a secret holds little else.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where the values come from.
pub(super) struct Sources<'a> {
    /// The folder that `${file:path}` is relative to.
    pub folder: &'a Path,
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// The text with every reference replaced. The error never holds a value.
pub(super) fn expand(text: &str, sources: &Sources<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let (name, after) = reference[2..].split_once('}').ok_or("`${` without `}`; write $${ where the text `${` itself is meant")?;
        expanded.push_str(&resolve(name, sources)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
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
