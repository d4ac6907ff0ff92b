//! `pgshovel explain`: what an error's code means.

use crate::error::{Code, Error, Result, page};
use crate::nearest::nearest;

use super::output;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// As a message begins with it, such as PS201. Without one all are listed.
    code: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let text = match arguments.code.as_deref() {
        None => page::list(),
        Some(code) => explain(code)?,
    };
    output::print(&text).map(drop)
}

/// A number alone is enough.
fn explain(code: &str) -> Result<String> {
    let wanted = if code.starts_with(|first: char| first.is_ascii_digit()) { format!("PS{code}") } else { code.to_uppercase() };
    match Code::find(&wanted) {
        Some(situation) => Ok(page::entry(situation)),
        None => {
            let codes = page::codes();
            let advice = match nearest(&wanted, codes.iter().map(String::as_str)) {
                Some(found) => format!("did you mean {found}?"),
                None => "it is PS and three digits".to_owned(),
            };
            Err(Error::usage(Code::Usage, format!("there is no code {code:?}; {advice} `pgshovel explain` lists all")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_explained_however_it_is_written_and_a_wrong_one_names_the_nearest() {
        let expected = page::entry(Code::find(&Code::RegistryAway.to_string()).unwrap());
        for written in ["PS201", "ps201", "201"] {
            assert_eq!(explain(written).unwrap(), expected);
        }
        let error = explain("PS2O1").unwrap_err();
        assert_eq!((error.next.exit_code(), error.message.contains("did you mean PS201?")), (2, true), "{error}");
        assert!(explain("x").unwrap_err().message.contains("PS and three digits"));
    }
}
