use std::fs;

use gateway::{SessionEnds, SessionFilter, SessionProtocol, SessionTraffic};

use super::*;

#[test]
fn who_was_behind_a_pool_address_is_known_at_each_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = both(&folder, LogLimits::default());
    // one after the other behind T:4000, and another beside them
    log.put(&began(100, 1, 4000));
    log.put(&began(105, 9, 4001));
    log.put(&ended(150, 100, 1, 4000));
    log.put(&began(160, 2, 4000));

    let who = |at| {
        let page = log.reader.read(&query(4000, at, at));
        let remotes: Vec<_> = page.entries.iter().map(remote).collect();
        remotes
    };
    assert_eq!(who(99), [0; 0]);
    assert_eq!(who(100), [1]);
    assert_eq!(who(150), [1]);
    assert_eq!(who(155), [0; 0]);
    assert_eq!(who(1000), [2]);
    let both = log.reader.read(&query(4000, 0, 1000)).entries;
    assert_eq!(
        both.iter().map(|entry| entry.ended).collect::<Vec<_>>(),
        [
            Some(LoggedEnd {
                at: Wall::from_secs(150),
                why: EndReason::Expired
            }),
            None
        ]
    );
    assert_eq!(both[0].traffic.bytes_in, 77);
}

#[test]
fn end_without_beginning_speaks_for_itself_and_beginning_without_end_is_ended_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = both(&folder, LogLimits::default());
    log.put(&ended(150, 100, 1, 4000));
    log.put(&began(200, 1, 4000));
    log.put(&began(300, 1, 4000));

    let entries = log.reader.read(&query(4000, 0, 1000)).entries;

    assert_eq!(
        entries
            .iter()
            .map(|entry| (entry.began.as_secs(), entry.ended.map(|end| end.why)))
            .collect::<Vec<_>>(),
        [
            (100, Some(EndReason::Expired)),
            (200, Some(EndReason::Lost)),
            (300, None)
        ]
    );
    let (open, last) = log.reader.open_ends();
    assert_eq!((open.len(), last), (1, Wall::from_secs(300)));
}

#[test]
fn pages_follow_each_other_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = both(&folder, small());
    for at in 0..70 {
        log.put(&began(at, 1, 5000));
        log.put(&ended(at + 1, at, 1, 5000));
    }
    let mut query = query(5000, 0, 100);
    query.limit = 9;
    let mut seen = Vec::new();
    loop {
        let page = log.reader.read(&query);
        assert!(page.entries.len() <= 9);
        seen.extend(page.entries.iter().map(|entry| entry.began.as_secs()));
        match page.next {
            Some(next) => query.cursor = next,
            None => break,
        }
    }
    assert_eq!(seen, (0..70).collect::<Vec<_>>());
}

#[test]
fn disk_is_bounded_and_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let limits = small();
    let mut log = both(&folder, limits);
    for at in 0..2000 {
        log.put(&ended(at, at, 1, 4000));
        assert!(size(&folder) <= limits.bytes, "{}", size(&folder));
    }

    let page = log.reader.read(&query(4000, 0, 3000));
    let first = page.entries.first().unwrap().began.as_secs();
    let last = page.entries.last().unwrap().began.as_secs();
    assert_eq!(last, 1999);
    assert!(page.entries.len() > 100 && first == 2000 - page.entries.len() as u64);
    assert!(page.since.unwrap().as_secs() <= first);
}

#[test]
fn line_is_kept_for_days_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits {
        days: 3,
        ..LogLimits::default()
    };
    let mut log = both(&folder, limits);
    let day = DAY.as_secs();
    for at in [0, day, 2 * day, 3 * day] {
        log.put(&ended(at + 5, at + 5, 1, 4000));
    }

    log.log.forget(Wall::from_secs(4 * day)).unwrap();

    let left = log.reader.read(&query(4000, 0, 9 * day)).entries;
    assert_eq!(
        left.iter()
            .map(|entry| entry.began.as_secs())
            .collect::<Vec<_>>(),
        [day + 5, 2 * day + 5, 3 * day + 5]
    );
    let mut off = Log::open(folder.path(), LogLimits::OFF);
    assert_eq!(off.add(&began(1, 1, 1)), 0);
    off.flush(Wall::from_secs(1)).unwrap();
    off.forget(Wall::from_secs(1)).unwrap();
    assert_eq!(size(&folder), 0, "without a log nothing is kept");
}

#[test]
fn torn_tail_costs_the_torn_record_and_writing_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = both(&folder, LogLimits::default());
    log.put(&ended(1, 1, 1, 4000));
    log.put(&ended(2, 2, 1, 4000));
    drop(log);
    let (number, len) = segments::list(folder.path())[0];
    let path = folder.path().join(format!("{:010}.log", number.0));
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(len - 5).unwrap();

    let mut log = both(&folder, LogLimits::default());
    log.put(&ended(3, 3, 1, 4000));

    let seen = |log: &Both| {
        let page = log.reader.read(&query(4000, 0, 100));
        let began = page.entries.iter().map(|entry| entry.began.as_secs());
        began.collect::<Vec<_>>()
    };
    assert_eq!(seen(&log), [1, 3]);
    assert_eq!(segments::list(folder.path()).len(), 1);
    // what stands in the middle is lost alone
    let mut bytes = fs::read(&path).unwrap();
    bytes[LEN + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(seen(&log), [3]);
    fs::write(&path, b"no log").unwrap();
    assert_eq!(seen(&log), [] as [u64; 0]);
}

#[test]
fn full_disk_loses_what_does_not_fit_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("log");
    let mut log = Log::open(&inner, LogLimits::default());
    // where a file stands, no folder can be: it refuses like a disk that is full
    fs::write(&inner, b"").unwrap();
    let mut lost = 0;
    for at in 0..WAITING as u64 + 7 {
        lost += log.add(&ended(at, at, 1, 4000));
    }
    assert_eq!(lost, 7);
    assert!(log.flush(Wall::from_secs(2)).is_err());
    fs::remove_file(&inner).unwrap();

    log.flush(Wall::from_secs(2)).unwrap();

    let page = Reader::new(inner).read(&query(4000, 0, 100_000));
    assert_eq!(page.entries.len(), WAITING);
}

struct Both {
    log: Log,
    reader: Reader,
}

impl Both {
    fn put(&mut self, record: &Record) {
        assert_eq!(self.log.add(record), 0);
        self.log.flush(record.at).unwrap();
    }
}

fn both(folder: &tempfile::TempDir, limits: LogLimits) -> Both {
    Both {
        log: Log::open(folder.path(), limits),
        reader: Reader::new(folder.path().to_owned()),
    }
}

/// A hundred and some records.
fn small() -> LogLimits {
    LogLimits {
        bytes: 16 * 1024,
        ..LogLimits::default()
    }
}

fn size(folder: &tempfile::TempDir) -> u64 {
    segments::list(folder.path())
        .iter()
        .map(|(_, len)| len)
        .sum()
}

fn query(port: u16, from: u64, until: u64) -> LogQuery {
    LogQuery {
        filter: SessionFilter {
            pool: Some([192, 168, 64, 193].into()),
            pool_port: Some(port),
            ..SessionFilter::default()
        },
        from: Wall::from_secs(from),
        until: Wall::from_secs(until),
        limit: usize::MAX,
        cursor: LogCursor(0),
    }
}

fn began(at: u64, remote: u16, port: u16) -> Record {
    Record {
        at: Wall::from_secs(at),
        began: Wall::from_secs(at),
        ends: SessionEnds {
            protocol: SessionProtocol::Tcp,
            remote: ([0x2001, 0xdb8, 0, 0, 0, 0, 0, remote].into(), 1024),
            external: ([0x2001, 0xdb8, 1, 0, 0, 0, 0, 1].into(), 80),
            pool: ([192, 168, 64, 193].into(), port),
            server: ([192, 168, 64, 10].into(), 8080),
        },
        ended: None,
        traffic: SessionTraffic::default(),
    }
}

fn ended(at: u64, began: u64, remote: u16, port: u16) -> Record {
    Record {
        at: Wall::from_secs(at),
        ended: Some(EndReason::Expired),
        traffic: SessionTraffic {
            bytes_in: 77,
            ..SessionTraffic::default()
        },
        ..self::began(began, remote, port)
    }
}

fn remote(entry: &LogEntry) -> u16 {
    entry.ends.remote.0.segments()[7]
}
