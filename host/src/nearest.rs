//! "Did you mean …": the known name that a wrong one was probably meant to be.

/// How many names a list in a message may have.
const LISTED_MAX: usize = 12;

/// The known name nearest to `name`, unless all of them are too far from it to
/// be meant: more than a third of its letters would have to change.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = name.to_lowercase();
    let distance = |other: &str| strsim::damerau_levenshtein(&folded, &other.to_lowercase());
    let (distance, found) = known.into_iter().map(|other| (distance(other), other)).min()?;
    (distance <= 1 + name.chars().count() / 3).then_some(found)
}

/// How a message about an unknown name ends: the nearest known one, else the
/// first few of them, else that there are none.
#[must_use]
pub fn advice<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(found) = nearest(name, known.iter().copied()) {
        return format!("did you mean {found:?}?");
    }
    match known.len() {
        0 => "there is none".to_owned(),
        count => {
            let more = if count > LISTED_MAX { format!(" and {} more", count - LISTED_MAX) } else { String::new() };
            let listed: Vec<String> = known.iter().take(LISTED_MAX).map(|name| format!("{name:?}")).collect();
            format!("there is {}{more}", listed.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let known = ["accounts", "branches", "tellers"];
        assert_eq!(nearest("acounts", known), Some("accounts"));
        assert_eq!(nearest("Branches", known), Some("branches"));
        assert_eq!(nearest("history", known), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn advice_is_bounded() {
        assert_eq!(advice("acounts", ["accounts"]), "did you mean \"accounts\"?");
        assert_eq!(advice("history", ["a", "b"]), "there is \"a\", \"b\"");
        assert_eq!(advice("history", []), "there is none");
        let many: Vec<String> = (0..20).map(|number| format!("table_{number}")).collect();
        assert!(advice("history", many.iter().map(String::as_str)).ends_with(" and 8 more"));
    }
}
