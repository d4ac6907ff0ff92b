//! About what values take of the host while they are on their way, their NULLs included:
//! once as they came, and once as the driver sends them.

use std::mem::size_of;

use proto::row::{Row, Value};

/// The length in front of each value, as it is sent.
const LENGTH: usize = 4;

/// Columns of a statement over sets.
pub(super) fn of_columns(columns: &[Vec<Option<String>>]) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let column = |column: &Vec<Option<String>>| {
        let texts: usize = column.iter().map(text).sum();
        size_of::<Vec<Option<String>>>() + column.len() * (size_of::<Option<String>>() + LENGTH) + 2 * texts
    };
    columns.iter().map(column).sum()
}

/// Parameters of one statement.
pub(super) fn of_row(row: &[Value]) -> usize {
    row.iter().map(|value| size_of::<Value>() + LENGTH + 2 * of_content(value)).sum()
}

/// A row of a result of which the server sent `bytes`: lists grow by doubling, and are
/// converted for the plugin.
pub(super) fn of_result(row: &Row, bytes: usize) -> usize {
    2 * (size_of::<Row>() + row.len() * size_of::<Value>()) + bytes
}

fn of_content(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Null | Value::Boolean(_) | Value::Integer(_) | Value::Float(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_free() {
        assert_eq!(of_columns(&[vec![None; 1000]]), 24 + 1000 * 28);
        assert_eq!(of_columns(&[vec![Some("abc".into())], vec![]]), 24 + 28 + 6 + 24);
        assert!(of_row(&[Value::Null]) > 0 && of_row(&[Value::Text("abc".into())]) > of_row(&[Value::Integer(1)]));
        // Rows without columns are rows.
        assert_eq!(of_result(&Row::new(), 0), 48);
    }
}
