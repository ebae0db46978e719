//! Files that are not what their endings say.

use std::io::{self, Read, Seek};

/// What a file really is that is named as an archive, and what to do; read from its start, to which it is set back.
pub(super) fn disguise(file: &mut (impl Read + Seek)) -> io::Result<Option<&'static str>> {
    const KINDS: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "compressed by gzip; unpack it first with gunzip"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first with unzstd"),
        (b"\xfd7zXZ\0", "compressed by xz; unpack it first with unxz"),
        (b"BZh", "compressed by bzip2; unpack it first with bunzip2"),
        (b"PK\x03\x04", "a zip archive; unpack it and take the folder"),
        (b"version https://git-lfs", "a pointer of Git LFS, not the file; fetch it with git lfs pull"),
        (b"<!DOCTYPE", "a page of the web; download the file itself"),
        (b"<html", "a page of the web; download the file itself"),
    ];
    let mut start = vec![];
    file.by_ref().take(32).read_to_end(&mut start)?;
    file.rewind()?;
    let is = |magic: &[u8]| start.len() >= magic.len() && start[..magic.len()].eq_ignore_ascii_case(magic);
    Ok(KINDS.iter().find(|(magic, _)| is(magic)).map(|(_, found)| *found))
}
