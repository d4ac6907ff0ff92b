//! One way to name the errors of PostgreSQL.

use std::error::Error as _;

use super::driver::{self, Said};
use crate::error::{Code, Error, Next, Sqlstate};

/// What to do when `lock_timeout` has passed.
const LOCK_REMEDY: &str = "; another session holds the lock: pg_locks and pg_stat_activity say which";

/// What to do when policies would hide rows.
const ROWS_REMEDY: &str =
    "; the role would not be shown all rows: ALTER ROLE … BYPASSRLS, or let it own the table, which then is not FORCE ROW LEVEL SECURITY";

/// Names a PostgreSQL error by what to do next. Never holds a row's values: the
/// server's DETAIL, which may, is left out.
#[must_use]
pub fn explain(error: &tokio_postgres::Error) -> Error {
    if let Some(refusal) = error.as_db_error() {
        let code = refusal.code().code();
        let remedy = match code {
            "55P03" => LOCK_REMEDY,
            // Its message may be in any language.
            "42501" if refusal.routine() == Some("check_enable_rls") => ROWS_REMEDY,
            _ => "",
        };
        let (next, situation) = situation(code);
        let mut error = Error::new(next, situation, format!("{} (SQLSTATE {code}){remedy}", refusal.message()));
        error.sqlstate = Sqlstate::parse(code);
        return error;
    }
    // Without an answer of the server: the connection broke, or was never made.
    match driver::said(error) {
        Some(Said::PasswordMissing) => Error::configure(Code::LoginRefused, with_source(error)),
        Some(Said::Invalid) => Error::configure(Code::DsnInvalid, with_source(error)),
        Some(Said::ReadOnly) => read_only(),
        _ => Error::retry(Code::DatabaseAway, with_source(error)),
    }
}

/// A server that takes no writes, whoever found it out.
pub(super) fn read_only() -> Error {
    Error::retry(
        Code::DatabaseReadOnly,
        "the server takes no writes: it is a replica that is not promoted, or default_transaction_read_only is on",
    )
}

fn with_source(error: &tokio_postgres::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Whether the statement that this SQLSTATE refused may succeed later, with nobody mending
/// anything. The one list of them, for plugins too.
#[must_use]
pub fn is_passing(code: &str) -> bool {
    situation(code).0 == Next::Retry
}

/// See PostgreSQL's appendix A, "PostgreSQL Error Codes".
fn situation(code: &str) -> (Next, Code) {
    match code {
        "28P01" | "28000" => (Next::Configure, Code::LoginRefused),
        "3D000" => (Next::Configure, Code::DatabaseAbsent),
        // Transactions that are read-only for now, as hosting services make them when a disk fills.
        "25006" => (Next::Retry, Code::DatabaseReadOnly),
        // Lock not available, statement timeout, idle-session and in-transaction timeouts.
        "55P03" | "57014" | "25P03" | "25P04" | "57P05" => (Next::Retry, Code::DatabaseBusy),
        "42501" => (Next::Stop, Code::PermissionDenied),
        _ => match code.get(..2) {
            // Connection exception, operator intervention, system error.
            Some("08" | "57" | "58") => (Next::Retry, Code::DatabaseAway),
            // Transaction rollback.
            Some("40") => (Next::Retry, Code::DatabaseBusy),
            Some("53") => (Next::Retry, Code::ResourcesShort),
            _ => (Next::Stop, Code::StatementRefused),
        },
    }
}
