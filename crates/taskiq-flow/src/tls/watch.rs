//! Waiting for files to change, without looking at them again and again.
//!
//! Folders are watched, not files: certbot and Kubernetes put a new file, or a new link, in the place of the old one, and
//! who watches the old one hears nothing any more. A path may lead over several links; the folder of each is watched.
//! Folders on other machines (NFS and the like) tell nothing of what others change in them: send SIGHUP there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Reason, TlsFiles, TlsReloader};

/// How long nothing must have happened: key and certificate are rarely written in one moment.
const QUIET: Duration = Duration::from_millis(700);
/// How long to wait for quiet at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many links a path may lead over, as on Linux.
const MAX_LINKS: usize = 40;

/// Never ends.
pub(super) async fn watch(reloader: &TlsReloader) {
    // Room for one: what matters is that something happened, not how often.
    let (happened, mut happenings) = mpsc::channel(1);
    let mut _watcher = follow(&reloader.files(), &happened);
    loop {
        tokio::select! {
            _ = happenings.recv() => {}
            () = reloader.0.renamed.notified() => {}
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && tokio::time::timeout(QUIET, happenings.recv()).await.is_ok() {}
        // Links may lead elsewhere now. Watched first and read after: nothing that happens between is lost.
        if let Some(anew) = follow(&reloader.files(), &happened) {
            _watcher = Some(anew);
        }
        // What is wrong with them has been logged and recorded.
        let _ = reloader.refresh(Reason::Changed).await;
    }
}

/// Watches the folders of the files. Each time anew: a folder that was removed and made again is another one.
fn follow(files: &TlsFiles, happened: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let paths = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let places: BTreeSet<PathBuf> = paths.into_iter().flatten().flat_map(|path| places(path)).collect();
    let watcher = listen(&places, happened.clone());
    watcher
        .inspect_err(|error| {
            tracing::warn!(%error, "changes of the certificate's files are not noticed; send SIGHUP after a change");
        })
        .ok()
}

fn listen(places: &BTreeSet<PathBuf>, happened: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let change = event.map_or(true, |event| match event.kind {
            // Reading them is no change, and we do.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        });
        if change {
            // Full: something happened already. Closed: the server is gone.
            let _ = happened.try_send(());
        }
    })?;
    for place in places {
        watcher.watch(place, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// The folders in which a path, or what it leads to, can change; where one is missing, the nearest that is there.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut queue = vec![std::path::absolute(path).unwrap_or_else(|_| path.to_owned())];
    let mut links = 0;
    while let Some(path) = queue.pop() {
        let mut walked = PathBuf::new();
        for part in path.components() {
            let folder = walked.clone();
            walked.push(part);
            let is_link = walked.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
            let Some(target) = is_link.then(|| std::fs::read_link(&walked).ok()).flatten() else { continue };
            // A folder of the path that is a link can be led elsewhere, and so can what is behind it.
            places.push(folder.clone());
            links += 1;
            if links <= MAX_LINKS {
                let rest = path.strip_prefix(&walked).unwrap_or(Path::new(""));
                let target = folder.join(target);
                queue.push(if rest.as_os_str().is_empty() { target } else { target.join(rest) });
            }
            break;
        }
        places.extend(path.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned));
    }
    places
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_folder_in_which_a_link_can_change_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        // As Kubernetes mounts a secret.
        std::fs::create_dir_all(root.join("mount/..1")).unwrap();
        std::fs::write(root.join("mount/..1/tls.crt"), "x").unwrap();
        symlink("..1", root.join("mount/..data")).unwrap();
        symlink("..data/tls.crt", root.join("mount/tls.crt")).unwrap();
        let found: BTreeSet<_> = places(&root.join("mount/tls.crt")).into_iter().collect();
        assert!(found.contains(&root.join("mount")) && found.contains(&root.join("mount/..1")), "{found:?}");
        // As certbot keeps a certificate.
        std::fs::create_dir_all(root.join("live/x")).unwrap();
        std::fs::create_dir_all(root.join("archive/x")).unwrap();
        symlink("../../archive/x/cert1.pem", root.join("live/x/cert.pem")).unwrap();
        let found: BTreeSet<_> = places(&root.join("live/x/cert.pem")).into_iter().collect();
        assert!(found.contains(&root.join("live/x")), "{found:?}");
        assert!(
            found.iter().any(|place| place.canonicalize().unwrap() == root.join("archive/x")),
            "{found:?}"
        );
        // What is not there yet, and a link to itself.
        assert_eq!(places(&root.join("none/yet/cert.pem")), std::slice::from_ref(&root));
        symlink("loop", root.join("loop")).unwrap();
        assert!(places(&root.join("loop")).contains(&root));
    }
}
