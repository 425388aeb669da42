//! A disk as the system calls of a traced process leave it: what is certain to be on it, and what a power cut may take.
//!
//! Certain is what `fsync` or `fdatasync` has covered: writes that had ended when the call began. `sync_file_range` counts
//! for nothing. What is not certain may be there or not, page by page; names in a directory that was not synced since may
//! be missing from the last one back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::numbers::Numbers;

/// The unit in which a disk keeps or loses what was not synced.
const PAGE: usize = 4_096;

/// One system call that changes the disk, with the times at which it began and ended, in microseconds.
#[derive(Clone, Debug)]
pub struct Call {
    pub began: u64,
    pub ended: u64,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// At an offset, or at the end.
    Write(PathBuf, Option<u64>, Vec<u8>),
    Truncate(PathBuf, u64),
    /// Opened for writing; made where it was not there, emptied if so asked.
    Open(PathBuf, bool),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// Of a file or of a directory.
    Sync(PathBuf),
}

/// How many bytes of data files were written and not covered by a sync at a moment. Marks are not counted, which nobody
/// syncs.
pub fn dirty(calls: &[Call], at: u64) -> u64 {
    let mut waiting: BTreeMap<&Path, Vec<(u64, u64)>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.began < at) {
        match &call.kind {
            Kind::Write(path, _, bytes) if !path.to_string_lossy().ends_with("acknowledged") => {
                waiting.entry(path).or_default().push((call.ended, bytes.len() as u64));
            }
            Kind::Sync(path) if call.ended <= at => {
                waiting.entry(path).or_default().retain(|(ended, _)| *ended > call.began);
            }
            _ => {}
        }
    }
    waiting.values().flatten().map(|(_, bytes)| bytes).sum()
}

/// What a file may not have on disk yet.
#[derive(Clone, Debug)]
enum Change {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    certain: Vec<u8>,
    /// With the time at which each ended.
    pending: Vec<(u64, Change)>,
    length: u64,
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
            Self::Bytes(at, new) => write_at(bytes, usize::try_from(*at).unwrap(), new),
        }
    }
}

fn write_at(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

impl File {
    fn change(&mut self, ended: u64, change: Change) {
        self.length = match &change {
            Change::Bytes(at, bytes) => self.length.max(at + bytes.len() as u64),
            Change::Length(length) => *length,
        };
        self.pending.push((ended, change));
    }

    fn sync(&mut self, began: u64) {
        let mut left = Vec::new();
        for (ended, change) in std::mem::take(&mut self.pending) {
            if ended <= began {
                change.apply(&mut self.certain);
            } else {
                left.push((ended, change));
            }
        }
        self.pending = left;
    }

    /// What a power cut leaves: `keep` of a hundred of the pages that were not synced.
    fn after_cut(&self, keep: u64, numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = self.certain.clone();
        for (_, change) in &self.pending {
            match change {
                Change::Length(_) if numbers.below(100) < keep => change.apply(&mut bytes),
                Change::Length(_) => {}
                Change::Bytes(at, new) => {
                    let (start, end) = (usize::try_from(*at).unwrap(), usize::try_from(*at).unwrap() + new.len());
                    let mut from = start;
                    while from < end {
                        let to = ((from / PAGE + 1) * PAGE).min(end);
                        if numbers.below(100) < keep {
                            write_at(&mut bytes, from, &new[from - start..to - start]);
                        }
                        from = to;
                    }
                }
            }
        }
        bytes
    }
}

/// A change of names.
#[derive(Clone, Debug)]
enum Naming {
    Make(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Naming {
    fn directory(&self) -> &Path {
        let (Self::Make(path, _) | Self::Rename(_, path) | Self::Remove(path)) = self;
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Make(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// The folder `root` on a disk.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    files: Vec<File>,
    certain: BTreeMap<PathBuf, usize>,
    pending: Vec<(u64, Naming)>,
    /// Names as the process sees them.
    names: BTreeMap<PathBuf, usize>,
    folders: Vec<PathBuf>,
}

impl Disk {
    /// A folder that has been on the disk for long.
    pub fn new(root: &Path) -> Self {
        let empty = BTreeMap::new();
        let (files, folders) = (Vec::new(), Vec::new());
        let mut disk =
            Self { root: root.to_owned(), files, certain: empty.clone(), pending: Vec::new(), names: empty, folders };
        disk.take(root);
        disk.names = disk.certain.clone();
        disk
    }

    fn take(&mut self, folder: &Path) {
        self.folders.push(folder.to_owned());
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                self.take(&entry.path());
            } else {
                let certain = std::fs::read(entry.path()).unwrap();
                self.certain.insert(entry.path(), self.files.len());
                self.files.push(File { length: certain.len() as u64, certain, pending: Vec::new() });
            }
        }
    }

    /// Plays what was called until `at`: a call that had not ended may have done its work or not.
    pub fn play(&mut self, calls: &[Call], at: u64) {
        for call in calls.iter().filter(|call| call.began < at) {
            self.call(call, call.ended <= at);
        }
    }

    fn file(&mut self, path: &Path) -> Option<&mut File> {
        let file = *self.names.get(path)?;
        self.files.get_mut(file)
    }

    fn name(&mut self, ended: u64, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending.push((ended, naming));
    }

    fn call(&mut self, call: &Call, done: bool) {
        let ended = call.ended;
        match &call.kind {
            Kind::Write(path, at, bytes) => {
                if let Some(file) = self.file(path) {
                    let at = at.unwrap_or(file.length);
                    file.change(ended, Change::Bytes(at, bytes.clone()));
                }
            }
            Kind::Truncate(path, length) => {
                if let Some(file) = self.file(path) {
                    file.change(ended, Change::Length(*length));
                }
            }
            Kind::Open(path, emptied) => {
                if !self.names.contains_key(path) {
                    let number = self.files.len();
                    self.files.push(File::default());
                    self.name(ended, Naming::Make(path.clone(), number));
                } else if let Some(file) = self.file(path).filter(|_| *emptied) {
                    file.change(ended, Change::Length(0));
                }
            }
            Kind::Rename(from, to) => self.name(ended, Naming::Rename(from.clone(), to.clone())),
            Kind::Remove(path) => self.name(ended, Naming::Remove(path.clone())),
            Kind::Sync(path) if done => {
                if let Some(file) = self.file(path) {
                    file.sync(call.began);
                }
                let (mut left, began) = (Vec::new(), call.began);
                for (ended, naming) in std::mem::take(&mut self.pending) {
                    if ended <= began && naming.directory() == path {
                        naming.apply(&mut self.certain);
                    } else {
                        left.push((ended, naming));
                    }
                }
                self.pending = left;
            }
            Kind::Sync(_) => {}
        }
    }

    /// A process has died: where the next one appends to is what is there, whatever its last calls came to.
    pub fn restarted(&mut self) {
        for (path, file) in &self.names {
            if let Ok(there) = std::fs::metadata(path) {
                self.files[*file].length = there.len();
            }
        }
    }

    /// How many bytes are not certain.
    pub fn uncertain(&self) -> u64 {
        let of = |(_, change): &(u64, Change)| match change {
            Change::Bytes(_, bytes) => bytes.len() as u64,
            Change::Length(_) => 0,
        };
        self.files.iter().flat_map(|file| &file.pending).map(of).sum()
    }

    /// Writes to `image` what a power cut now leaves: `keep` of a hundred of the pages that were not synced, and the names
    /// up to some change of them.
    pub fn cut(&self, image: &Path, keep: u64, numbers: &mut Numbers) {
        let place = |path: &Path| image.join(path.strip_prefix(&self.root).unwrap());
        self.folders.iter().for_each(|folder| std::fs::create_dir_all(place(folder)).unwrap());
        let mut names = self.certain.clone();
        let kept = match keep {
            0 => 0,
            100 => self.pending.len(),
            _ => usize::try_from(numbers.below(self.pending.len() as u64 + 1)).unwrap(),
        };
        self.pending.iter().take(kept).for_each(|(_, naming)| naming.apply(&mut names));
        for (path, file) in names {
            std::fs::write(place(&path), self.files[file].after_cut(keep, numbers)).unwrap();
        }
    }
}
