//! Stores in directories that go with the test.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::DirEntry,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use analytics_engine::{
    Store,
    store::{
        Accepted, Erasure, LaneStatus, OnErased, Reason, Resumed, Seq, Settlement, SqliteOptions,
        SqliteStore, Stored,
    },
};
use analytics_spec::{
    AnyEvent, AnyInput, Context, Error, ErrorKind, HttpResponse, Input, Timestamp, Track,
};

pub(crate) fn options(dir: &Path) -> SqliteOptions {
    SqliteStore::options(dir)
}

pub(crate) async fn open(dir: &Path) -> SqliteStore {
    options(dir).open().await.unwrap()
}

pub(crate) fn names(lanes: &[&str]) -> Vec<Arc<str>> {
    lanes.iter().map(|name| Arc::from(*name)).collect()
}

pub(crate) fn input(event: impl Into<AnyEvent>, id: &str) -> AnyInput {
    let mut input = Input::new(event.into()).context(Context::new().message_id(id));
    input.stamp(Timestamp::now());
    input
}

pub(crate) fn track(user_id: &str, id: &str) -> AnyInput {
    input(Track::new("e").user_id(user_id), id)
}

pub(crate) async fn append(store: &SqliteStore, input: AnyInput, lanes: &[&str]) -> Seq {
    let accepted = Accepted::new(input, names(lanes));
    store.append(vec![accepted], Duration::MAX).await.unwrap()
}

pub(crate) fn quiet() -> OnErased {
    Arc::new(|_| {})
}

pub(crate) async fn attach(store: &SqliteStore, lanes: &[&str]) -> Vec<Resumed> {
    store.attach(&names(lanes), quiet()).await.unwrap()
}

/// Keeps what a store tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Erasure>>>);

impl Told {
    pub(crate) fn on_erased(&self) -> OnErased {
        let told = self.clone();
        Arc::new(move |erasure| told.0.lock().unwrap().push(erasure.clone()))
    }

    /// Who was erased, and up to which event.
    pub(crate) fn take(&self) -> Vec<(String, Seq)> {
        let erasures = std::mem::take(&mut *self.0.lock().unwrap());
        let erased = erasures.into_iter();
        erased
            .map(|erasure| (erasure.user_id.to_string(), erasure.through))
            .collect()
    }
}

/// Everything that is pending for a lane, in pages of so many bytes.
pub(crate) async fn pull_all(store: &SqliteStore, lane: &str, page: usize) -> Vec<Stored> {
    let mut after = 0;
    let mut all = Vec::new();
    loop {
        let pulled = store.pull(lane, after, page).await.unwrap();
        assert!(pulled.through >= after, "{pulled:?}");
        for event in &pulled.events {
            assert!(
                event.seq > after && event.seq <= pulled.through,
                "{pulled:?}"
            );
            after = event.seq;
        }
        if pulled.events.is_empty() {
            assert!(pulled.through >= store.last());
            return all;
        }
        after = pulled.through;
        all.extend(pulled.events);
    }
}

pub(crate) async fn ids(store: &SqliteStore, lane: &str) -> Vec<String> {
    let all = pull_all(store, lane, usize::MAX).await;
    let ids = all.iter().map(|event| event.body.load().unwrap());
    ids.map(|input| input.message_id().to_owned()).collect()
}

/// Settles, and waits for the erasures that come due by it.
pub(crate) async fn settle(store: &SqliteStore, lane: &str, settlements: &[(Seq, Settlement)]) {
    store.settle(lane, settlements, None).await.unwrap();
    store.erase_due().await.unwrap();
}

pub(crate) fn refused() -> Settlement {
    let error = Error::new(ErrorKind::RequestRejected, "no such thing")
        .with_response(HttpResponse::new(400).body("bad"));
    Settlement::refused(Reason::from(&error), 3)
}

pub(crate) async fn status(store: &SqliteStore, lane: &str) -> LaneStatus {
    let all = store.status().await.unwrap();
    let found = all.into_iter().find(|status| status.integration == lane);
    found.unwrap_or_default()
}

/// A directory in memory, where there is some: it is faster.
pub(crate) fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// The directory as it would be found if the process ended now.
pub(crate) fn crash(dir: &Path) -> tempfile::TempDir {
    // The store may tidy up meanwhile: what is copied is one moment's.
    let mut files = contents(dir);
    loop {
        let again = contents(dir);
        if again == files {
            break;
        }
        files = again;
    }
    let copy = temporary();
    for (name, bytes) in files {
        std::fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

/// The files of a directory.
fn contents(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let read = |entry: DirEntry| Some((entry.file_name(), std::fs::read(entry.path()).ok()?));
    let entries = std::fs::read_dir(dir).unwrap();
    entries.filter_map(|entry| read(entry.unwrap())).collect()
}

/// The files of a directory in which some bytes are found.
pub(crate) fn holding(dir: &Path, needle: &str) -> Vec<String> {
    let needle = needle.as_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        // Nothing but zeros.
        if entry.file_name() == "reserve" {
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        if bytes.windows(needle.len()).any(|window| window == needle) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

/// A disk of 8 MiB, for users who may mount one.
#[cfg(target_os = "linux")]
pub(crate) struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    pub(crate) fn mount() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        disk.run(&["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
        disk
    }

    pub(crate) fn make_read_only(&self) {
        self.run(&["mount", "-o", "remount,ro"]);
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    fn run(&self, args: &[&str]) {
        let mut command = std::process::Command::new(args[0]);
        let run = command.args(&args[1..]).arg(self.path()).output().unwrap();
        assert!(run.status.success(), "{args:?}: {run:?}");
    }

    /// Takes all the room but for so many bytes.
    pub(crate) fn fill(&self, leaving: u64) {
        use std::io::Write as _;
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let size = file.metadata().unwrap().len();
        file.set_len(size - leaving).unwrap();
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("umount");
        let _ = command.arg("-l").arg(self.path()).output();
    }
}
