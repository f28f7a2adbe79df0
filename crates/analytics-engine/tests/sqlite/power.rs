//! The power goes. Of what was written since the last acknowledged step, any
//! of the disk's pages may be there, and others not: what was acknowledged is
//! there in any case, and nothing is that was never asked for.

use std::time::Duration;

use std::{collections::BTreeMap, path::Path};

use analytics_engine::{
    Store,
    store::{Accepted, Settlement},
};
use analytics_spec::Track;

use crate::support::*;

const PAGE: usize = 4096;

/// Images a step.
const IMAGES: usize = 6;

const STEPS: usize = 90;

const LANES: [&str; 2] = ["a", "b"];

/// What is pending for each lane.
type Pending = [BTreeMap<u64, String>; 2];

/// What stands in the two files.
#[derive(Clone, PartialEq)]
struct Disk {
    file: Vec<u8>,
    log: Vec<u8>,
}

impl Disk {
    fn read(dir: &Path) -> Self {
        let read = |name| std::fs::read(dir.join(name)).unwrap_or_default();
        Self {
            file: read("events.db"),
            log: read("events.db-wal"),
        }
    }

    fn write(&self, dir: &Path) {
        std::fs::write(dir.join("events.db"), &self.file).unwrap();
        std::fs::write(dir.join("events.db-wal"), &self.log).unwrap();
    }
}

/// Some of the pages that differ, as after a loss of power.
fn torn(before: &[u8], after: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let odds = rng.u8(0..=10);
    let mut image = before.to_vec();
    let mut end = before.len();
    if after.len() > before.len() {
        let garbage = rng.bool();
        image.extend((before.len()..after.len()).map(|_| if garbage { rng.u8(..) } else { 0 }));
    }
    for start in (0..after.len()).step_by(PAGE) {
        let of_page = start..(start + PAGE).min(after.len());
        if rng.u8(0..10) < odds {
            image[of_page.clone()].copy_from_slice(&after[of_page.clone()]);
            end = end.max(of_page.end);
        }
    }
    // A file may have been made longer, or not yet.
    if rng.bool() {
        image.truncate(end);
    }
    image
}

async fn pending(dir: &Path) -> Pending {
    let store = options(dir).untidy().open().await.unwrap();
    let mut found = Pending::default();
    for (lane, found) in LANES.iter().zip(&mut found) {
        for event in pull_all(&store, lane, usize::MAX).await {
            let json =
                serde_json::to_string(&**event.body.load().unwrap().input().unwrap()).unwrap();
            found.insert(event.seq, json);
        }
        assert_eq!(status(&store, lane).await.pending, found.len() as u64);
    }
    // It goes on from there.
    let last = store.last();
    assert_eq!(append(&store, track("u", "next"), &["a"]).await, last + 1);
    assert_eq!(ids(&store, "a").await.len(), found[0].len() + 1);
    found
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_with_the_power() {
    let seed =
        std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = temporary();
    let store = options(dir.path()).untidy().open().await.unwrap();
    attach(&store, &LANES).await;
    let mut model = Pending::default();
    let mut disk = Disk::read(dir.path());
    let (mut images, mut torn_images, mut restarts) = (0, 0, 0);
    for step in 0..STEPS {
        let before = model.clone();
        match rng.u8(0..10) {
            0..=1 => store.checkpoint().await.unwrap(),
            2..=4 => {
                let at = rng.usize(0..2);
                let seqs: Vec<_> = model[at]
                    .keys()
                    .copied()
                    .filter(|_| rng.u8(0..3) > 0)
                    .collect();
                let settlements: Vec<_> = seqs
                    .iter()
                    .map(|seq| {
                        model[at].remove(seq);
                        (
                            *seq,
                            if rng.u8(0..8) == 0 {
                                refused()
                            } else {
                                Settlement::Delivered
                            },
                        )
                    })
                    .collect();
                settle(&store, LANES[at], &settlements).await;
            }
            _ => {
                let mut events = Vec::new();
                for n in 0..rng.u64(1..6) {
                    let size = if rng.u8(0..4) == 0 {
                        rng.usize(0..32_768)
                    } else {
                        rng.usize(0..500)
                    };
                    let text: String = (0..size).map(|_| rng.alphanumeric()).collect();
                    let event = input(
                        Track::new("e").user_id("u").property("p", text),
                        &format!("m{step}-{n}"),
                    );
                    let json = serde_json::to_string(&event).unwrap();
                    let at = rng.usize(0..3);
                    let lanes = if at == 2 { &LANES[..] } else { &LANES[at..=at] };
                    for (lane, model) in LANES.iter().zip(&mut model) {
                        if lanes.contains(lane) {
                            model.insert(store.last() + 1 + n, json.clone());
                        }
                    }
                    events.push(Accepted::new(event, names(lanes)));
                }
                store.append(events, Duration::MAX).await.unwrap();
            }
        }
        let after = Disk::read(dir.path());
        // A log that begins anew has its first 32 bytes written, and on the
        // disk, before anything else is.
        let mut base = disk.clone();
        if after.log.len() >= 32 && base.log.len() >= 32 && base.log[..32] != after.log[..32] {
            base.log[..32].copy_from_slice(&after.log[..32]);
            restarts += 1;
        }
        for image in 0..IMAGES {
            let at = temporary();
            let torn = if image == 0 {
                base.clone()
            } else {
                Disk {
                    file: torn(&base.file, &after.file, &mut rng),
                    log: torn(&base.log, &after.log, &mut rng),
                }
            };
            images += 1;
            torn_images += usize::from(torn != base && torn != after);
            torn.write(at.path());
            let found = pending(at.path()).await;
            assert!(
                found == before || found == model,
                "SEED={seed} step {step} image {image}"
            );
        }
        disk = after;
        // What is acknowledged is there.
        let at = temporary();
        disk.write(at.path());
        assert!(pending(at.path()).await == model, "SEED={seed} step {step}");
    }
    println!("{images} images, {torn_images} of them torn, {restarts} restarts of the log");
    assert!(images >= 300 && torn_images >= 100 && restarts >= 3);
}
