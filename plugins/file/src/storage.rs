//! The few things that the log needs of a file system.

use crate::failure::Outcome;

/// The folder of one log. Names are plain file names.
pub trait Folder {
    type File: File;

    /// All names, in no order. A folder that does not exist is empty.
    fn list(&self) -> Outcome<Vec<String>>;

    /// `None`: there is no such file.
    fn open(&self, name: &str, access: Access) -> Outcome<Option<Self::File>>;

    /// A new file with this content, which is never seen in part, whatever crashes.
    /// `None`: there is one of this name already.
    fn create(&self, name: &str, content: &[u8]) -> Outcome<Option<Self::File>>;

    fn remove(&self, name: &str) -> Outcome<()>;

    /// Returns when what was created and removed so far outlives a crash.
    fn sync(&self) -> Outcome<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

pub trait File {
    fn size(&self) -> Outcome<u64>;

    /// Up to `most` bytes from the byte `at` on; fewer only at the end of the file.
    fn read(&self, at: u64, most: usize) -> Outcome<Vec<u8>>;

    /// All of `bytes`, or an error and nothing known.
    fn write(&self, at: u64, bytes: &[u8]) -> Outcome<()>;

    /// A hint that the disk may begin with what was written there, so that `sync` has
    /// less to wait for.
    fn begin_sync(&self, _at: u64, _bytes: u64) {}

    fn truncate(&self, size: u64) -> Outcome<()>;

    /// Returns when the content and size of the file outlive a crash.
    fn sync(&self) -> Outcome<()>;
}
