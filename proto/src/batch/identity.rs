//! UUIDs, as a stream names databases and publishers by them.

use std::fmt;

/// The UUID of a database, or of a publisher.
pub type Id = [u8; 16];

/// An [`Id`] in the usual text form of a UUID.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub Id);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
