//! One way to name the errors of PostgreSQL.

use std::error::Error as _;

use crate::error::{Error, Next};

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
        let text = format!("{} (SQLSTATE {code}){remedy}", refusal.message());
        return Error::of(next(code), text);
    }
    // Without an answer of the server: the connection broke, or was never made.
    let cause = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    if cause.contains("invalid configuration") {
        return Error::configure(cause);
    }
    if cause.contains("does not allow writes") {
        return Error::retry("the server takes no writes: it is a replica that is not promoted, or default_transaction_read_only is on");
    }
    Error::retry(cause)
}

/// Whether the statement that this SQLSTATE refused may succeed later, with nobody mending
/// anything. The one list of them, for plugins too.
#[must_use]
pub fn is_passing(code: &str) -> bool {
    next(code) == Next::Retry
}

/// See PostgreSQL's appendix A, "PostgreSQL Error Codes".
fn next(code: &str) -> Next {
    match code {
        // Wrong password, no such role, no such database, no entry in pg_hba.conf.
        "28P01" | "28000" | "3D000" => Next::Configure,
        // Lock not available, statement timeout, idle-session and in-transaction timeouts,
        // transactions that are read-only for now, as hosting services make them when a disk fills.
        "55P03" | "57014" | "25P03" | "25P04" | "57P05" | "25006" => Next::Retry,
        _ => match code.get(..2) {
            // Connection exception, resources, operator intervention, transaction rollback, system error.
            Some("08" | "53" | "57" | "40" | "58") => Next::Retry,
            _ => Next::Stop,
        },
    }
}
