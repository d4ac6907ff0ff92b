//! Passwords that a DSN does not hold: password files, by the rules of PostgreSQL's
//! documentation of libpq ("The Password File").

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::parameters::Server;

/// How large a password file may be.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Group and others have no access.
const ALLOWED_MODE: u32 = 0o600;

/// The password for one server, from the password file. `None` if it knows none.
#[must_use]
pub fn password(server: &Server, database: &str, user: &str) -> Option<String> {
    let text = read(&path()?)?;
    let host = match server.name() {
        folder if folder == "/var/run/postgresql" || folder == "/tmp" => "localhost".to_owned(),
        name => name,
    };
    find(&text, [&host, &server.port.to_string(), database, user])
}

/// Where the password file is, whether there is one or not.
#[must_use]
pub fn path() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home)
}

fn read(path: &Path) -> Option<String> {
    let file = std::fs::metadata(path).ok()?;
    if !file.is_file() || file.len() > FILE_BYTES_MAX {
        return None;
    }
    if file.mode() & 0o777 & !ALLOWED_MODE != 0 {
        tracing::warn!(file = %path.display(), "the password file is not used: group or others have access to it; run chmod 600");
        return None;
    }
    std::fs::read_to_string(path).ok()
}

/// The password in the first line that matches host, port, database and user.
fn find(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let (password, keys) = fields.split_last()?;
        let matches = keys.len() == wanted.len() && keys.iter().zip(wanted).all(|(key, wanted)| key == "*" || key == wanted);
        matches.then(|| password.clone())
    })
}

/// Fields between colons; a backslash takes the next character as it is. The
/// fifth and last field may hold colons.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let count = fields.len();
        let Some(field) = fields.last_mut() else { break };
        match character {
            '\\' => field.extend(characters.next()),
            ':' if count < 5 => fields.push(String::new()),
            _ => field.push(character),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_matches_counts() {
        let text = "# comment\nbroken\nother:5432:app:ann:no\n*:*:app:ann:it\\:s\\\\me\nhost:5432:app:ann:late\n*:*:*:bob:a:b";
        assert_eq!(find(text, ["host", "5432", "app", "ann"]).as_deref(), Some("it:s\\me"));
        assert_eq!(find(text, ["host", "5432", "x", "bob"]).as_deref(), Some("a:b"));
        assert_eq!(find(text, ["host", "5432", "x", "ann"]), None);
    }
}
