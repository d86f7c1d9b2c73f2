//! Files beside the store: their names, whose they are, and that they survive a crash of the machine.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// A path with something after its name.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Makes the name of a file survive a crash of the machine.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Has a file that is made be one that its owner alone can read.
pub(super) fn owner_only(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Gives a new file the mode and the owner of another: a server that runs as somebody else must be able to open it.
pub(super) fn like(other: &Metadata, path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, other.permissions())?;
    chown(path, Some(other.uid()), Some(other.gid()))
}
