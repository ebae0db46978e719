//! `WebDataset` archives.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mixflow_backbones::json::explain;
use serde_json::Value;
use tar::{Archive, EntryType};

use super::{Source, SourceEntry, SourceImage, SourceImages, disguise, file_names, without_images};
use crate::data::captions::{both_captions, empty_captions, text};
use crate::data::image_captions::{CaptionNumbers, ImageCaptions, several};
use crate::data::{CaptionFormat, Error};
use crate::files::decode::LARGEST_FILE;
use crate::files::digest;
use crate::files::unique::Unique;
use crate::printable;

/// Largest label, bytes.
const MAX_LABEL: u64 = 1 << 20;

/// Classes that labels without names may have.
const MAX_CLASSES: u64 = 1 << 20;

/// What an archive is made of, bytes.
const BLOCK: u64 = 512;

/// Images in `.tar` files, in the order in which they stand there.
///
/// Members in a row whose paths agree up to the first dot of the file's name are a sample: `7.jpg` (or `.jpeg`, `.png`,
/// `.webp`) with `7.cls`, an integer in text, or `7.json`, an object with an integer `label` or `class`. Other members
/// are passed over. Of [captioned](WebDataset::captioned) images it is `7.jpg` with `7.txt`, or with `7.json`, an object with
/// a text `caption` or `text`, or a list of them and perhaps their `weights`, which counts where there is no `.txt`. Opening reads
/// headers and labels; images are read when asked for.
///
/// # Source
/// The `WebDataset` format, webdataset/webdataset, `README.md`.
#[derive(Debug)]
pub struct WebDataset {
    archives: Vec<PathBuf>,
    /// Of the archives, without folders.
    names: Vec<String>,
    classes: Vec<String>,
    members: Vec<Member>,
    /// Of each image, where some have several.
    captions: Vec<Vec<(usize, f64)>>,
    notices: Vec<String>,
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

/// Name, place and size of an image.
type Image = (String, u64, u64);

/// The members of one sample.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<Image>,
    label: Option<Label>,
    captioned: bool,
    /// Whether a `.json` has two captions, one of which is told.
    both: bool,
    /// What is wrong with what a `.json` tells.
    no_told: Option<String>,
    /// Members that are neither.
    others: Vec<String>,
    /// Members whose names begin with a dot.
    hidden: usize,
}

impl WebDataset {
    /// Lists the images in `archives`, one archive after the other. Without names, classes are called by their numbers.
    ///
    /// # Errors
    /// If an archive cannot be read, is cut, damaged or compressed, holds a sample without image or label or two images of
    /// one name, or there are no samples.
    pub fn open(archives: &[PathBuf], classes: Option<Vec<String>>) -> Result<Self, Error> {
        Self::of(archives, classes, None)
    }

    /// Lists the images with captions in `archives`, one archive after the other: all different captions, ordered, are the
    /// classes.
    ///
    /// # Errors
    /// As [`open`](Self::open), for a caption where that says class.
    pub fn captioned(archives: &[PathBuf], format: CaptionFormat) -> Result<Self, Error> {
        Self::of(archives, None, Some(format))
    }

    fn of(archives: &[PathBuf], classes: Option<Vec<String>>, format: Option<CaptionFormat>) -> Result<Self, Error> {
        let known = classes.as_ref().map_or(MAX_CLASSES, |classes| classes.len() as u64);
        let (captioned, mut captions) = (format.is_some(), CaptionNumbers::default());
        let names = file_names(archives)?;
        let (mut members, mut others, mut hidden, mut both, mut first) = (Vec::<Member>::new(), 0, 0, 0, None);
        for (number, path) in archives.iter().enumerate() {
            let mut seen = HashSet::new();
            list(path, format, |group| {
                others += group.others.len();
                hidden += group.hidden;
                both += usize::from(group.both);
                first = first.take().or_else(|| Some(format!("{}/{}", names[number], group.others.first()?)));
                let key = printable(&group.key).into_owned();
                let Some(((name, offset, size), told)) = group.sample()? else { return Ok(()) };
                let class = match told {
                    Label::Class(class) => class,
                    Label::Captions(told) => {
                        captions.add(told);
                        0
                    }
                };
                if class >= known && !captioned {
                    return Err(format!("sample `{key}` has class {class}; expected less than {known}"));
                }
                if !seen.insert(name.clone()) {
                    return Err(format!("`{}` is there twice; keep one of them", printable(&name)));
                }
                members.push(Member { archive: number, name: name.into(), offset, size, class: class as usize });
                Ok(())
            })?;
        }
        let Some(last) = members.iter().map(|member| member.class).max() else {
            let path = archives.first().cloned().unwrap_or_default();
            let told = if captioned { ".txt" } else { ".cls" };
            return Err(Error::Archive { path, reason: format!("no samples; expected images with {told} or .json") });
        };
        let (names_of_captions, captions) = captions.classes();
        members.iter_mut().zip(&captions).for_each(|(member, captions)| member.class = captions[0].0);
        let classes = if captioned { Some(names_of_captions) } else { classes };
        let classes = classes.unwrap_or_else(|| (0..=last).map(|class| class.to_string()).collect());
        let passed_over = first.map(|first| {
            format!("passed over {others} members that are no image and no class, the first {}", printable(&first))
        });
        let labels = members.iter().map(|member| member.class);
        let without = without_images(&classes, labels.chain(captions.iter().flatten().map(|(caption, _)| *caption)));
        let hidden = (hidden > 0).then(|| format!("passed over {hidden} members whose names begin with a dot"));
        let empty =
            members.iter().zip(&captions).filter(|(_, told)| told.iter().any(|(of, _)| classes[*of].is_empty()));
        let empty = empty_captions(empty.map(|(member, _)| {
            let name = format!("{}/{}", names[member.archive], member.name);
            printable(&name).into_owned()
        }));
        let notices = passed_over.into_iter().chain(hidden).chain(without);
        let notices = notices.chain(both_captions(both, ".json file", "")).chain(empty).collect();
        Ok(Self { archives: archives.to_vec(), names, classes, members, captions: several(captions), notices })
    }

    /// The archive's name and the path in it.
    fn name(&self, member: &Member) -> String {
        format!("{}/{}", self.names[member.archive], member.name)
    }
}

/// What is told of an image.
#[derive(PartialEq)]
enum Label {
    Class(u64),
    Captions(ImageCaptions),
}

impl Group {
    /// Its image and what is told of it; none if it has neither.
    fn sample(self) -> Result<Option<(Image, Label)>, String> {
        let key = printable(&self.key);
        // Of `7.input.jpg` the ending is `input.jpg`.
        let near = self.others.iter().find(|name| is_image(name.rsplit('.').next().unwrap_or_default()));
        let near = near.map(|name| {
            format!("`{}` is none of sample `{key}`, as its ending begins at the first dot", printable(name))
        });
        let [what, ending] = if self.captioned { ["caption", "txt"] } else { ["class", "cls"] };
        match (self.image, self.label) {
            (Some(image), Some(told)) => Ok(Some((image, told))),
            (None, None) => near.map_or(Ok(None), |near| Err(format!("{near}; name it `{key}.jpg`, .png or .webp"))),
            (Some(_), None) => Err(match self.no_told {
                Some(fault) => fault,
                None => format!(
                    "sample `{key}` has no {what}; add `{key}.{ending}` right behind its image, as packing with `tar --sort=name` does"
                ),
            }),
            (None, Some(_)) => Err(match near {
                Some(near) => format!("sample `{key}` has no image; {near}"),
                None => format!("sample `{key}` has no image; add a .jpg, .png or .webp"),
            }),
        }
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

    fn entries(&self) -> Result<Vec<SourceEntry>, Error> {
        let stamps: Vec<_> = self.archives.iter().map(|path| digest::stamp(path)).collect();
        let entry = |(place, member): (usize, &Member)| SourceEntry {
            name: self.name(member),
            class: member.class,
            captions: self.captions.get(place).cloned().unwrap_or_default(),
            stamp: stamps[member.archive].as_ref().map(|stamp| format!("{stamp} {} {}", member.offset, member.size)),
        };
        Ok(self.members.iter().enumerate().map(entry).collect())
    }

    fn several_captions(&self) -> bool {
        !self.captions.is_empty()
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    fn samples(&self, start: u64) -> Result<SourceImages<'_>, Error> {
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
            Ok(SourceImage { name: self.name(member), class: *class, bytes, mask: None })
        })))
    }
}

fn fault(path: &Path) -> impl Fn(String) -> Error {
    |reason| Error::Archive { path: path.into(), reason }
}

fn is_image(ending: &str) -> bool {
    ["jpg", "jpeg", "png", "webp"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Calls `each` for every sample of an archive.
fn list(
    path: &Path,
    format: Option<CaptionFormat>,
    mut each: impl FnMut(Group) -> Result<(), String>,
) -> Result<(), Error> {
    let (fault, captioned, format) = (fault(path), format.is_some(), format.unwrap_or_default());
    // What is no header is quoted by the reader, whatever its bytes are.
    let broken = |error: io::Error| fault(printable(&error.to_string()).into_owned());
    let mut file = File::open(path).map_err(broken)?;
    let length = file.metadata().map_err(broken)?.len();
    if let Some(found) = disguise(&mut file).map_err(broken)? {
        return Err(fault(format!("it {found}")));
    }
    let (own, what, expected) = match captioned {
        true => ("txt", "caption", ""),
        false => ("cls", "class", "; expected an integer from 0 on"),
    };
    let mut archive = Archive::new(file);
    let (mut group, mut end) = (Group { captioned, ..Group::default() }, 0);
    for entry in archive.entries_with_seek().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|name| {
            fault(format!("the name `{}` is not UTF-8", printable(&String::from_utf8_lossy(name.as_bytes()))))
        })?;
        let shown = printable(&name);
        let (offset, size) = (entry.raw_file_position(), entry.size());
        end = offset.checked_add(size).and_then(|end| end.checked_next_multiple_of(BLOCK)).unwrap_or(u64::MAX);
        if offset.saturating_add(size) > length {
            return Err(fault(format!("`{shown}` ends beyond the end of the file, which is cut or damaged")));
        }
        let (folder, file) = name.rsplit_once('/').map_or(("", &name[..]), |(folder, file)| (folder, file));
        // Of the name itself: so archives that were packed on a Mac keep what it knows of a file beside it.
        let hidden = file.starts_with('.');
        let split = file.split_once('.').filter(|_| !hidden);
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::GNUSparse => return Err(fault(format!("`{shown}` is stored with gaps; pack without --sparse"))),
            EntryType::Link | EntryType::Symlink if split.is_some_and(|(_, ending)| is_image(ending)) => {
                let advice = "pack the files themselves, with --dereference --hard-dereference";
                return Err(fault(format!("`{shown}` is a link; {advice}")));
            }
            _ => continue,
        }
        let Some((stem, ending)) = split else {
            group.hidden += usize::from(hidden);
            group.others.extend((!hidden).then_some(name));
            continue;
        };
        let key = if folder.is_empty() { stem.to_string() } else { format!("{folder}/{stem}") };
        if key != group.key {
            let next = Group { key: key.clone(), captioned, ..Group::default() };
            each(std::mem::replace(&mut group, next)).map_err(&fault)?;
        }
        let twin =
            || fault(format!("sample `{}` has two images or two classes, the second `{shown}`", printable(&key)));
        match ending.to_ascii_lowercase().as_str() {
            ending if is_image(ending) => {
                if size > LARGEST_FILE {
                    return Err(fault(format!("`{shown}` has {size} bytes; at most {LARGEST_FILE} are read")));
                }
                if group.image.replace((name.clone(), offset, size)).is_some() {
                    return Err(twin());
                }
            }
            ending if ending == "json" || ending == own => {
                let mut bytes = Vec::new();
                entry.by_ref().take(MAX_LABEL).read_to_end(&mut bytes).map_err(broken)?;
                let (is_json, mut both) = (ending == "json", false);
                let found = match (captioned, is_json) {
                    (true, true) => captions_of(&bytes, format, &mut both).map(|told| told.map(Label::Captions)),
                    (true, false) => text(&bytes).map(|text| Some(Label::Captions(format.of_text(text)))),
                    (false, true) => label(&bytes).map(|class| class.map(Label::Class)),
                    (false, false) => number(&bytes).map(|class| Some(Label::Class(class))),
                };
                match (found, &group.label) {
                    (Ok(Some(found @ Label::Class(_))), Some(other)) if found != *other => return Err(twin()),
                    // A text beside an image counts, whatever its JSON says.
                    (Ok(Some(Label::Captions(_))), Some(_)) if is_json => {}
                    (Ok(Some(found)), _) => (group.label, group.both) = (Some(found), both),
                    // It may describe the image besides.
                    (Ok(None), _) => group.others.push(name.clone()),
                    (Err(found), _) => {
                        let problem = format!("`{shown}` is no {what} but {}{expected}", printable(&found));
                        if !is_json {
                            return Err(fault(problem));
                        }
                        group.no_told = Some(problem);
                    }
                }
            }
            _ => group.others.push(name.clone()),
        }
    }
    each(group).map_err(&fault)?;
    check_end(archive.into_inner(), end).map_err(broken)?.map_or(Ok(()), |problem| Err(fault(problem.into())))
}

/// What is wrong behind the last member of an archive: it ends with blocks of zeros and has nothing more.
fn check_end(mut file: File, end: u64) -> io::Result<Option<&'static str>> {
    let (mut zeros, mut part) = (0, vec![0; 1 << 16]);
    file.seek(SeekFrom::Start(end))?;
    loop {
        let count = file.read(&mut part)?;
        if part[..count].iter().any(|byte| *byte != 0) {
            return Ok(Some("it goes on behind its end; several archives in one file are not read"));
        }
        zeros += count as u64;
        if count == 0 {
            return Ok((zeros < BLOCK).then_some("it has no end mark, so that it may be cut; pack it again"));
        }
    }
}

/// The integer that a text is, or what it is.
fn number(text: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_start_matches('\u{feff}').trim();
    text.parse().map_err(|_| format!("`{}`", text.chars().take(40).collect::<String>()))
}

/// The text `caption` or `text` of an object, or the list of them, if it has one, or what it is instead; whether it has `both`.
fn captions_of(text: &[u8], format: CaptionFormat, both: &mut bool) -> Result<Option<ImageCaptions>, String> {
    let object = object(text)?;
    let [text, caption] = ["text", "caption"].map(|key| object.get(key).filter(|value| !value.is_null()));
    *both = text.is_some() && caption.is_some();
    // As in a folder's metadata.jsonl.
    let weights = object.get("weights").unwrap_or(&Value::Null);
    let told = text.or(caption).map(|told| format.of_json(told, weights)).transpose()?;
    match told.as_ref().is_some_and(ImageCaptions::has_zeros) {
        true => Err("text with zeros".into()),
        false => Ok(told),
    }
}

/// A JSON object, in which no key stands twice.
fn object(text: &[u8]) -> Result<Value, String> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let object = serde_json::from_slice(text);
    object.map(|Unique(object)| object).map_err(|error| format!("JSON that is wrong: {}", explain(&error)))
}

/// The integer `label` or `class` of an object, if it has one, or what it is instead.
fn label(text: &[u8]) -> Result<Option<u64>, String> {
    let object = object(text)?;
    match (object.get("label"), object.get("class")) {
        (Some(label), Some(class)) if label != class => Err(format!("the label `{label}` and the class `{class}`")),
        (Some(value), _) | (None, Some(value)) => value.as_u64().map(Some).ok_or_else(|| format!("`{value}`")),
        (None, None) => Ok(None),
    }
}
