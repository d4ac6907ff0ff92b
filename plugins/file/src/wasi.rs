//! The granted folder, as the log's storage.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Advice, Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip2::random::random::get_random_u64;

use crate::failure::{Failure, Outcome};
use crate::storage::{Access, File, Folder};

/// Of files on their way to become segments.
const DRAFT_SUFFIX: &str = ".draft";

/// A folder below the granted one; it need not exist while it is only read.
pub struct Path {
    granted: Descriptor,
    parts: Vec<String>,
}

impl Path {
    /// Below the first folder that was granted.
    pub fn new(parts: &[String]) -> Outcome<Self> {
        let granted = get_directories().into_iter().next().map(|(descriptor, _)| descriptor).ok_or_else(|| {
            Failure::Configure(
                "no folder is granted: add `grants: { files: { path: ./stream, mode: read-write } }` to the section".to_owned(),
            )
        })?;
        Ok(Self { granted, parts: parts.to_vec() })
    }

    /// Makes what is missing of the folder, and removes what dead writers left.
    pub fn prepare(&self) -> Outcome<()> {
        for depth in 1..=self.parts.len() {
            let path = self.parts[..depth].join("/");
            match self.granted.create_directory_at(&path) {
                Ok(()) => self.sync_folder(&self.parts[..depth - 1])?,
                Err(ErrorCode::Exist) => {}
                Err(code) => return Err(failure(code, &path, "cannot be made")),
            }
        }
        for name in self.list()?.iter().filter(|name| name.ends_with(DRAFT_SUFFIX)) {
            self.remove(name)?;
        }
        Ok(())
    }

    fn at(&self, name: &str) -> String {
        let mut path = self.parts.join("/");
        path.push('/');
        path.push_str(name);
        path
    }

    fn sync_folder(&self, parts: &[String]) -> Outcome<()> {
        let path = if parts.is_empty() { ".".to_owned() } else { parts.join("/") };
        self.granted
            .open_at(PathFlags::empty(), &path, OpenFlags::DIRECTORY, DescriptorFlags::READ)
            .and_then(|folder| folder.sync())
            .map_err(|code| failure(code, &path, "cannot be synced"))
    }

    fn open_file(&self, name: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
        self.granted.open_at(PathFlags::empty(), &self.at(name), how, flags)
    }

    /// Under a name of its own, whole and durable.
    fn write_draft(&self, draft: &str, content: &[u8]) -> Outcome<()> {
        let descriptor = self
            .open_file(draft, OpenFlags::CREATE | OpenFlags::EXCLUSIVE, DescriptorFlags::READ | DescriptorFlags::WRITE)
            .map_err(|code| failure(code, draft, "cannot be made"))?;
        let file = OpenFile { descriptor, name: draft.to_owned() };
        file.write(0, content)?;
        file.sync()
    }
}

impl Folder for Path {
    type File = OpenFile;

    fn list(&self) -> Outcome<Vec<String>> {
        let path = self.parts.join("/");
        let fail = |code| failure(code, &path, "cannot be listed");
        let folder = match self.granted.open_at(PathFlags::empty(), &path, OpenFlags::DIRECTORY, DescriptorFlags::READ) {
            Ok(folder) => folder,
            Err(ErrorCode::NoEntry) => return Ok(Vec::new()),
            Err(code) => return Err(fail(code)),
        };
        let entries = folder.read_directory().map_err(fail)?;
        let mut names = Vec::new();
        while let Some(entry) = entries.read_directory_entry().map_err(fail)? {
            names.push(entry.name);
        }
        Ok(names)
    }

    fn open(&self, name: &str, access: Access) -> Outcome<Option<OpenFile>> {
        let flags = match access {
            Access::Read => DescriptorFlags::READ,
            Access::ReadWrite => DescriptorFlags::READ | DescriptorFlags::WRITE,
        };
        match self.open_file(name, OpenFlags::empty(), flags) {
            Ok(descriptor) => Ok(Some(OpenFile { descriptor, name: name.to_owned() })),
            Err(ErrorCode::NoEntry) => Ok(None),
            Err(code) => Err(failure(code, name, "cannot be opened")),
        }
    }

    /// A link, unlike a renaming, fails where the name is taken.
    fn create(&self, name: &str, content: &[u8]) -> Outcome<Option<OpenFile>> {
        let draft = format!("{:016x}{DRAFT_SUFFIX}", get_random_u64());
        self.write_draft(&draft, content)?;
        let linked = self.granted.link_at(PathFlags::empty(), &self.at(&draft), &self.granted, &self.at(name));
        self.remove(&draft)?;
        match linked {
            Ok(()) => self.open(name, Access::ReadWrite),
            Err(ErrorCode::Exist) => Ok(None),
            Err(code) => Err(failure(code, name, "cannot be made")),
        }
    }

    fn remove(&self, name: &str) -> Outcome<()> {
        match self.granted.unlink_file_at(&self.at(name)) {
            // Another writer that prepares the folder may be faster.
            Ok(()) | Err(ErrorCode::NoEntry) => Ok(()),
            Err(code) => Err(failure(code, name, "cannot be removed")),
        }
    }

    fn sync(&self) -> Outcome<()> {
        self.sync_folder(&self.parts)
    }
}

pub struct OpenFile {
    descriptor: Descriptor,
    name: String,
}

impl OpenFile {
    fn fail(&self, code: ErrorCode, what: &str) -> Failure {
        failure(code, &self.name, what)
    }
}

impl File for OpenFile {
    fn size(&self) -> Outcome<u64> {
        self.descriptor.stat().map(|stat| stat.size).map_err(|code| self.fail(code, "cannot be examined"))
    }

    fn read(&self, at: u64, most: usize) -> Outcome<Vec<u8>> {
        let mut found = Vec::new();
        while found.len() < most {
            let (mut more, ended) = self
                .descriptor
                .read((most - found.len()) as u64, at + found.len() as u64)
                .map_err(|code| self.fail(code, "cannot be read"))?;
            if found.is_empty() {
                found = more;
            } else {
                found.append(&mut more);
            }
            if ended {
                break;
            }
        }
        Ok(found)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Outcome<()> {
        let mut written = 0;
        while written < bytes.len() {
            let more =
                self.descriptor.write(&bytes[written..], at + written as u64).map_err(|code| self.fail(code, "cannot be written"))?;
            written += usize::try_from(more).unwrap_or(usize::MAX).min(bytes.len() - written);
            if more == 0 {
                return Err(Failure::Retry(format!("{}: a write had no effect", self.name)));
            }
        }
        Ok(())
    }

    /// Linux starts to write what it is told not to keep in memory, and keeps it until
    /// that is done (posix_fadvise(2), POSIX_FADV_DONTNEED).
    fn begin_sync(&self, at: u64, bytes: u64) {
        let _ = self.descriptor.advise(at, bytes, Advice::DontNeed);
    }

    fn truncate(&self, size: u64) -> Outcome<()> {
        self.descriptor.set_size(size).map_err(|code| self.fail(code, "cannot be cut"))
    }

    fn sync(&self) -> Outcome<()> {
        // After a failed sync the kernel may have dropped what it could not write.
        self.descriptor.sync_data().map_err(|code| self.fail(code, "cannot be synced"))
    }
}

/// A full disk may have room again; rights do not change by themselves.
fn failure(code: ErrorCode, name: &str, what: &str) -> Failure {
    let text = format!("{name} {what}: {}", code.message());
    match code {
        ErrorCode::InsufficientSpace | ErrorCode::Quota => Failure::Retry(format!("{text}: make room on the disk")),
        ErrorCode::Access | ErrorCode::NotPermitted | ErrorCode::ReadOnly => {
            Failure::Stop(format!("{text}: grant the folder with `mode: read-write`, and let the user of this process write to it"))
        }
        ErrorCode::NameTooLong => Failure::Stop(format!("{text}: choose a shorter name for the set")),
        ErrorCode::NoEntry | ErrorCode::NotDirectory | ErrorCode::IsDirectory | ErrorCode::Loop => {
            Failure::Stop(format!("{text}: something changes the folder of the stream"))
        }
        _ => Failure::Retry(text),
    }
}
