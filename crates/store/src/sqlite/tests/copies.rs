//! Copies of a store, and files that nobody has open.

use std::collections::HashSet;
use std::fs;

use rusqlite::Connection;

use super::*;
use crate::conformance::record;
use crate::error::BackupError;

fn names(directory: &TempDir) -> HashSet<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn new_run() -> (RunId, RunWrite) {
    let run = Box::new(record("p", 0));
    (run.run_id, RunWrite::Create { run, owner: Uuid::now_v7(), firing: None, replays: None })
}

async fn write_runs(store: &SqliteStore, count: usize) -> Vec<RunId> {
    let (ids, writes): (Vec<_>, Vec<_>) = (0..count).map(|_| new_run()).unzip();
    assert!(store.write(writes).await.unwrap().iter().all(Result::is_ok));
    ids
}

#[tokio::test]
async fn a_copy_has_every_run_that_was_there_before_and_none_by_half() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = relaxed(&directory);
    let mut written = write_runs(&store, 500).await;
    for round in 0..5 {
        let before = written.clone();
        let target = elsewhere.path().join(format!("{round}.db"));
        let mut copying = store.backup(&target, false);
        let bytes = loop {
            tokio::select! {
                bytes = &mut copying => break bytes.unwrap(),
                ids = write_runs(&store, 3) => written.extend(ids),
            }
        };
        assert_eq!(bytes, fs::metadata(&target).unwrap().len());
        assert_eq!(SqliteFile::open(&target).unwrap().check().unwrap().problems, Vec::<String>::new());
        let copy = open(&target, Durability::Strict);
        for id in before {
            assert!(copy.run(id).await.unwrap().is_some(), "{id} was acknowledged before copy {round}");
        }
        let claimed = copy.claim(Uuid::now_v7(), Timestamp::now(), Timestamp::MAX, 1 << 20).await.unwrap();
        assert!(claimed.len() >= 500, "its runs go on in the copy: {}", claimed.len());
        assert!((claimed.len() - 500).is_multiple_of(3), "a transaction is there wholly or not at all");
        copy.close().await;
    }
    assert!(names(&elsewhere).iter().all(|name| !name.contains("partial")));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_a_copy() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let target = directory.path().join("copy.db");
    store.backup(&target, false).await.unwrap();
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn nothing_but_an_earlier_copy_makes_way() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let at = |name: &str| directory.path().join(name);
    store.backup(&at("copy.db"), false).await.unwrap();
    let path = at("copy.db").canonicalize().unwrap();
    assert_eq!(store.backup(&at("copy.db"), false).await, Err(BackupError::Exists { path: path.clone() }));
    let ids = write_runs(&store, 1).await;
    store.backup(&at("copy.db"), true).await.unwrap();
    let copy = open(&path, Durability::Strict);
    assert!(copy.run(ids[0]).await.unwrap().is_some(), "it is the newer one");
    let refused = store.backup(&path, true).await.unwrap_err();
    assert!(refused.to_string().contains("a process has it open"), "{refused}");
    drop(copy);
    fs::write(at("text"), "x").unwrap();
    fs::create_dir(at("directory")).unwrap();
    let other = Connection::open(at("other.db")).unwrap();
    other.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(other);
    let before = names(&directory);
    for (name, why) in [
        ("text", "no copy of a store"),
        ("other.db", "no copy of a store"),
        ("directory", "it is a directory"),
        ("t.db", "the store itself"),
        ("t.db-wal", "the store itself"),
        ("t.db-shm", "the store itself"),
        ("t.db-journal", "the store itself"),
        ("t.db-redo", "the store itself"),
        ("t.db.lock", "the store itself"),
        ("t.db.v2.bak", "a newer version"),
    ] {
        let error = store.backup(&at(name), true).await.unwrap_err();
        assert!(
            matches!(error, BackupError::Refused { .. }) && error.to_string().contains(why),
            "{name}: {error}"
        );
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("t.db"), at("link.db")).unwrap();
        assert!(matches!(store.backup(&at("link.db"), true).await, Err(BackupError::Refused { .. })));
        fs::remove_file(at("link.db")).unwrap();
    }
    assert!(matches!(
        store.backup(&at("no/such/copy.db"), false).await,
        Err(BackupError::Store(StoreError::Io { .. }))
    ));
    assert!(matches!(
        store.backup(Path::new("/"), false).await,
        Err(BackupError::Store(StoreError::Io { .. }))
    ));
    assert_eq!(names(&directory), before, "nothing was left anywhere");
    store.check().await.unwrap();
}

/// SQLite applies a log to the file whose name it has, whichever that is.
#[tokio::test]
async fn the_log_of_an_earlier_file_is_never_applied_to_a_copy() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let at = |name: &str| directory.path().join(name);
    store.backup(&at("copy.db"), false).await.unwrap();
    // What is left of a process that was killed, with a log that has not been folded into the file.
    let left = at("left.db");
    let copy = open(&at("copy.db"), Durability::Strict);
    write_runs(&copy, 1).await;
    fs::copy(at("copy.db"), &left).unwrap();
    fs::copy(at("copy.db-wal"), at("left.db-wal")).unwrap();
    drop(copy);
    let before = (fs::read(&left).unwrap(), fs::read(at("left.db-wal")).unwrap());
    let refused = store.backup(&left, true).await.unwrap_err().to_string();
    assert!(refused.contains("the log of its last use is beside it"), "{refused}");
    let after = (fs::read(&left).unwrap(), fs::read(at("left.db-wal")).unwrap());
    assert_eq!(before, after, "nothing has changed");
    // Also where the log alone is left.
    fs::remove_file(&left).unwrap();
    assert!(matches!(store.backup(&left, false).await, Err(BackupError::Refused { .. })));
    fs::rename(at("left.db-wal"), at("left.db-journal")).unwrap();
    assert!(matches!(store.backup(&left, false).await, Err(BackupError::Refused { .. })));
    fs::write(at("left.db-journal"), "").unwrap();
    fs::write(at("left.db-wal"), "").unwrap();
    store.backup(&left, false).await.unwrap();
    store.backup(&left, true).await.unwrap();
    assert_eq!(SqliteFile::open(&left).unwrap().check().unwrap().problems, Vec::<String>::new());
    for name in ["other.db-wal", "other.db-shm", "other.db-journal", "other.db.lock"] {
        let error = store.backup(&at(name), true).await.unwrap_err();
        assert!(error.to_string().contains("for what is kept beside a store"), "{name}: {error}");
    }
}

#[tokio::test]
async fn one_copy_is_made_at_a_time_and_none_after_the_end() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let target = directory.path().join("copy.db");
    let turn = store.copying.begin().unwrap();
    assert_eq!(store.backup(&target, false).await, Err(BackupError::Busy));
    store.copying.stop();
    let broken_off = copy::copy_open(&store.path, &target, false, &turn);
    assert_eq!(broken_off, Err(BackupError::Store(StoreError::Closed)));
    drop(turn);
    store.close().await;
    assert_eq!(store.backup(&target, false).await, Err(BackupError::Store(StoreError::Closed)));
    assert_eq!(
        names(&directory),
        HashSet::from(["t.db", "t.db.lock"].map(str::to_owned)),
        "nothing is left of it"
    );
}

fn version(path: &Path) -> u32 {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn a_file_is_kept_before_its_schema_is_changed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    fs::write(&path, old::FILE).unwrap();
    drop(open(&path, Durability::Strict));
    assert_eq!(version(&path), schema::NEWEST);
    let kept = directory.path().join("t.db.v2.bak");
    let checked = SqliteFile::open(&kept).unwrap().check().unwrap();
    assert_eq!((checked.schema, checked.problems.len()), (2, 0));
    assert!(checked.rows.contains(&("runs".to_owned(), 5)), "{:?}", checked.rows);
    // Once more, as after a crash between the two.
    fs::write(&path, old::FILE).unwrap();
    drop(open(&path, Durability::Strict));
    assert_eq!(version(&kept), 2);
    drop(open(&path, Durability::Strict));
    assert!(
        !names(&directory).contains(&format!("t.db.v{}.bak", schema::NEWEST)),
        "nothing was changed then"
    );
}

#[test]
fn a_schema_is_not_changed_where_the_file_cannot_be_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    fs::write(&path, old::FILE).unwrap();
    fs::create_dir(directory.path().join("t.db.v2.bak")).unwrap();
    let error = SqliteStore::open(SqliteOptions::new(&path)).unwrap_err();
    assert!(matches!(&error, StoreError::Io { .. }), "{error}");
    assert!(
        error.to_string().contains("from version 2 to") && error.to_string().contains("t.db.v2.bak"),
        "{error}"
    );
    assert_eq!(version(&path), 2);
}

#[tokio::test]
async fn a_check_tells_what_is_there_and_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    write_runs(&store, 7).await;
    let path = store.path.clone();
    assert_eq!(SqliteFile::open(&path).unwrap_err(), StoreError::Locked { path: path.clone() });
    store.close().await;
    let before = fs::read(&path).unwrap();
    let checked = SqliteFile::open(&path).unwrap().check().unwrap();
    assert_eq!((checked.schema, checked.newest_schema), (schema::NEWEST, schema::NEWEST));
    assert_eq!(checked.bytes, before.len() as u64);
    for row in [("runs", 7), ("schedules", 0)] {
        assert!(checked.rows.contains(&(row.0.to_owned(), row.1)), "{row:?}: {:?}", checked.rows);
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    let store = open(&path, Durability::Relaxed);
    assert_eq!(store.claim(Uuid::now_v7(), Timestamp::now(), Timestamp::MAX, 10).await.unwrap().len(), 7);
}

#[tokio::test]
async fn a_check_finds_damage() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    write_runs(&store, 200).await;
    let path = store.path.clone();
    store.close().await;
    let whole = fs::read(&path).unwrap();
    let mut overwritten = whole.clone();
    overwritten[4096 * 2..4096 * 12].fill(0x5a);
    for damaged in [overwritten, whole[..whole.len() / 2].to_vec()] {
        fs::write(&path, damaged).unwrap();
        match SqliteFile::open(&path).and_then(|file| file.check()) {
            Ok(checked) => assert!(!checked.problems.is_empty()),
            Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error}"),
        }
    }
    fs::write(&path, "no database at all. ".repeat(100)).unwrap();
    assert!(matches!(SqliteFile::open(&path), Err(StoreError::Corrupt { .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(SqliteFile::open(&path), Err(StoreError::Foreign { .. })));
    fs::remove_file(&path).unwrap();
    let missing = SqliteFile::open(&path).unwrap_err();
    assert!(missing.to_string().contains("there is no such file"), "{missing}");
    assert!(!path.exists());
}

/// Nor does who has the file at rest write to the name under which it is kept.
#[tokio::test]
async fn what_is_kept_before_a_newer_version_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let path = store.path.clone();
    store.close().await;
    drop(store);
    let file = SqliteFile::open(&path).unwrap();
    let error = file.backup(&directory.path().join("t.db.v2.bak"), true).unwrap_err();
    assert!(matches!(error, BackupError::Refused { .. }), "{error}");
    file.backup(&directory.path().join("t.db.bak"), false).unwrap();
}
