//! `WebDataset` archives.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::{Archive, EntryType};

use super::{Entry, Sample, Samples, Source};
use crate::data::Error;
use crate::data::decode::LARGEST_FILE;
use crate::digest;

/// Largest label, bytes.
const MAX_LABEL: u64 = 1 << 20;

/// Classes that labels without names may have.
const MAX_CLASSES: u64 = 1 << 20;

/// Images in `.tar` files, in the order in which they stand there.
///
/// Members in a row whose paths agree up to the first dot of the file's name are a sample: `7.jpg` (or `.jpeg`, `.png`,
/// `.webp`) with `7.cls`, an integer in text, or `7.json`, an object with an integer `label` or `class`. Other members
/// are passed over. Opening reads headers and labels; images are read when asked for.
///
/// # Source
/// The `WebDataset` format, webdataset/webdataset, `README.md`.
#[derive(Debug)]
pub struct WebDataset {
    archives: Vec<PathBuf>,
    classes: Vec<String>,
    members: Vec<Member>,
}

/// An image in an archive.
#[derive(Debug)]
struct Member {
    archive: usize,
    name: Box<str>,
    offset: u64,
    size: u64,
    class: usize,
}

/// The members of one sample.
#[derive(Default)]
struct Group {
    key: String,
    /// Name, place and size.
    image: Option<(String, u64, u64)>,
    class: Option<u64>,
}

impl WebDataset {
    /// Lists the images in `archives`, one archive after the other. Without names, classes are called by their numbers.
    ///
    /// # Errors
    /// If an archive cannot be read, is damaged, holds a sample without image or label, or there are no samples.
    pub fn open(archives: &[PathBuf], classes: Option<Vec<String>>) -> Result<Self, Error> {
        let known = classes.as_ref().map_or(MAX_CLASSES, |classes| classes.len() as u64);
        let mut members = Vec::new();
        for (number, path) in archives.iter().enumerate() {
            list(path, |group| {
                let Group { key, image, class } = group;
                match (image, class) {
                    (None, None) => Ok(()),
                    (Some(_), None) => Err(format!("sample `{key}` has no class; add `{key}.cls`")),
                    (None, Some(_)) => Err(format!("sample `{key}` has no image; add a .jpg, .png or .webp")),
                    (_, Some(class)) if class >= known => {
                        Err(format!("sample `{key}` has class {class}; expected less than {known}"))
                    }
                    (Some((name, offset, size)), Some(class)) => {
                        let (name, class) = (name.into(), class as usize);
                        members.push(Member { archive: number, name, offset, size, class });
                        Ok(())
                    }
                }
            })?;
        }
        let Some(last) = members.iter().map(|member| member.class).max() else {
            let path = archives.first().cloned().unwrap_or_default();
            return Err(Error::Archive { path, reason: "no samples; expected images with .cls or .json".into() });
        };
        let classes = classes.unwrap_or_else(|| (0..=last).map(|class| class.to_string()).collect());
        Ok(Self { archives: archives.to_vec(), classes, members })
    }

    /// The archive's name and the path in it.
    fn name(&self, member: &Member) -> String {
        let archive = self.archives[member.archive].file_name().unwrap_or_default();
        format!("{}/{}", archive.to_string_lossy(), member.name)
    }
}

impl Source for WebDataset {
    fn len(&self) -> u64 {
        self.members.len() as u64
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self) -> String {
        let archives: Vec<_> = self.archives.iter().map(|path| path.display().to_string()).collect();
        format!("WebDataset {}", archives.join(", "))
    }

    fn entries(&self) -> Result<Vec<Entry>, Error> {
        let stamps: Vec<_> = self.archives.iter().map(|path| digest::stamp(path)).collect();
        let entry = |member: &Member| Entry {
            name: self.name(member),
            class: member.class,
            stamp: stamps[member.archive].as_ref().map(|stamp| format!("{stamp} {} {}", member.offset, member.size)),
        };
        Ok(self.members.iter().map(entry).collect())
    }

    fn samples(&self, start: u64) -> Result<Samples<'_>, Error> {
        let mut open: Option<(usize, File)> = None;
        Ok(Box::new(self.members.iter().skip(start as usize).map(move |member| {
            let Member { archive, offset, size, class, .. } = member;
            let path = &self.archives[*archive];
            let mut read = || {
                let mut file = match open.take() {
                    Some((number, file)) if number == *archive => file,
                    _ => File::open(path)?,
                };
                let mut bytes = vec![0; *size as usize];
                file.seek(SeekFrom::Start(*offset))?;
                file.read_exact(&mut bytes)?;
                open = Some((*archive, file));
                Ok(bytes)
            };
            let bytes = read().map_err(|error: io::Error| fault(path)(error.to_string()))?;
            Ok(Sample { name: self.name(member), class: *class, bytes })
        })))
    }
}

fn fault(path: &Path) -> impl Fn(String) -> Error {
    |reason| Error::Archive { path: path.into(), reason }
}

/// Calls `each` for every sample of an archive.
fn list(path: &Path, mut each: impl FnMut(Group) -> Result<(), String>) -> Result<(), Error> {
    let fault = fault(path);
    let broken = |error: io::Error| fault(error.to_string());
    let file = File::open(path).map_err(broken)?;
    let length = file.metadata().map_err(broken)?.len();
    let mut group = Group::default();
    for entry in Archive::new(file).entries_with_seek().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(fault(format!("`{name}` ends beyond the end of the file, which is cut or damaged")));
        }
        let (folder, file) = name.rsplit_once('/').map_or(("", &name[..]), |(folder, file)| (folder, file));
        let Some((stem, ending)) = file.split_once('.').filter(|(stem, _)| !stem.is_empty()) else { continue };
        let key = if folder.is_empty() { stem.to_string() } else { format!("{folder}/{stem}") };
        if key != group.key {
            each(std::mem::replace(&mut group, Group { key: key.clone(), ..Group::default() })).map_err(&fault)?;
        }
        let twin = || fault(format!("sample `{key}` has two images or two classes, the second `{name}`"));
        match ending.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" | "png" | "webp" => {
                if size > LARGEST_FILE {
                    return Err(fault(format!("`{name}` has {size} bytes; at most {LARGEST_FILE} are read")));
                }
                if group.image.replace((name.clone(), offset, size)).is_some() {
                    return Err(twin());
                }
            }
            ending @ ("cls" | "json") => {
                let mut text = Vec::new();
                entry.by_ref().take(MAX_LABEL).read_to_end(&mut text).map_err(broken)?;
                let found = if ending == "cls" { number(&text) } else { label(&text) };
                // A .json may describe the image besides.
                if found.is_none() && ending == "cls" {
                    return Err(fault(format!("`{name}` is no class; expected an integer from 0 on")));
                }
                if found.is_some_and(|found| group.class.replace(found).is_some_and(|other| other != found)) {
                    return Err(twin());
                }
            }
            _ => {}
        }
    }
    each(group).map_err(fault)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn label(text: &[u8]) -> Option<u64> {
    let object: Value = serde_json::from_slice(text).ok()?;
    ["label", "class"].iter().find_map(|key| object.get(key)?.as_u64())
}
