//! The table of codes, for people: `ERRORS.md` and `pgshovel explain`.

use std::fmt::Write as _;

use super::code::{Code, GROUPS, SITUATIONS, Situation};

/// All of `ERRORS.md`.
#[must_use]
pub fn page() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         Each error of pgshovel has a code, which it is printed with: `pgshovel: PS201: no ZooKeeper server answered …`. The log has it as \
         `code=PS201`, `/readyz` as `\"code\"`, `/metrics` as the label `code` of `pgshovel_errors_total`. The text of an error says what \
         happened in this case, and what to do. The code says which situation it is: it keeps its meaning from version to version, so that \
         alerts and runbooks can name it. `pgshovel explain PS201` prints an entry of this page.\n\n\
         *Then* says what pgshovel does itself, and the exit code if the process ends by it:\n\n\
         | then | what pgshovel does | exit code |\n|---|---|---|\n\
         | usage, configure | ends: somebody has to change an argument, a file or a stored configuration | 2, 3 |\n\
         | retry | a relay or a worker tries again, with pauses of up to half a minute; a command gives up | 4 |\n\
         | blocked | tries again in the same way, and goes on by itself once a person has mended it | 1 |\n\
         | trap | opens the plugin anew and tries once more | 1 |\n\
         | stop | ends: nothing changes by itself | 1 |\n\
         | bug | ends: report it | 70 |\n\n\
         This page is made of the table in `src/error/code.rs` (`UPDATE_EXPECT=1 cargo test -p pgshovel --lib -- error`).\n",
    );
    // Writing to a string does not fail.
    for (group, name) in GROUPS {
        let _ = write!(text, "\n## PS{group}xx: {name}\n\n| code | what it means | usual cause | remedy | then |\n|---|---|---|---|---|\n");
        for situation in of(group) {
            let Situation { code, meaning, cause, remedy, .. } = situation;
            let _ = writeln!(text, "| {code} | {meaning} | {cause} | {remedy} | {} |", then(situation));
        }
    }
    text
}

/// One code.
#[must_use]
pub fn entry(situation: &Situation) -> String {
    let Situation { code, nexts, meaning, cause, remedy } = situation;
    let exits: Vec<String> = nexts.iter().map(|next| format!("{} (exit code {})", next.name(), next.exit_code())).collect();
    format!("{code}: {meaning}\n  usual cause: {cause}\n  remedy: {remedy}\n  then: {}\n", exits.join(", "))
}

/// All codes, one a line.
#[must_use]
pub fn list() -> String {
    let mut text = String::new();
    for (group, name) in GROUPS {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{name}");
        for Situation { code, meaning, .. } in of(group) {
            let _ = writeln!(text, "  {code}  {meaning}");
        }
    }
    text
}

/// Every code as it is written.
#[must_use]
pub fn codes() -> Vec<String> {
    SITUATIONS.iter().map(|situation| situation.code.to_string()).collect()
}

fn of(group: u16) -> impl Iterator<Item = &'static Situation> {
    SITUATIONS.iter().filter(move |situation| Code::number(situation.code) / 100 == group)
}

fn then(situation: &Situation) -> String {
    situation.nexts.iter().map(|next| next.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_page_is_made_of_the_table() {
        expect_file!["../../ERRORS.md"].assert_eq(&page());
    }

    #[test]
    fn each_code_has_its_number_once_a_group_and_all_that_is_to_be_said() {
        for pair in SITUATIONS.windows(2) {
            assert!(pair[0].code.number() < pair[1].code.number(), "{} is not in order", pair[1].code);
        }
        let grouped: usize = GROUPS.iter().map(|(group, _)| of(*group).count()).sum();
        assert_eq!(grouped, SITUATIONS.len(), "a code is in no group");
        for situation in SITUATIONS {
            let Situation { code, nexts, meaning, cause, remedy } = situation;
            assert!(!nexts.is_empty(), "{code}");
            for text in [meaning, cause, remedy] {
                assert!(!text.is_empty() && !text.ends_with('.') && !text.contains(['|', '\n']), "{code}: {text:?}");
            }
            assert_eq!(Code::find(&code.to_string().to_lowercase()).map(|found| found.code), Some(*code));
            assert!(entry(situation).contains(remedy) && list().contains(meaning), "{code}");
        }
    }
}
