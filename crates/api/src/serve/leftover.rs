//! What is left of a request's body when it is not wanted any more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;

/// How long the rest of a body may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body of HTTP/2 whose rest, up to `most` bytes, is taken and forgotten when it is dropped before its end, as when the
/// request is refused.
///
/// Else its stream is reset, and what of it is under way by then counts as so many mistakes of the client's: a few hundred
/// refusals in a row would end the connection, with all that others do on it where a proxy shares one.
#[derive(Debug)]
pub(super) struct Leftover<B: Body<Data = Bytes> + Unpin + Send + 'static> {
    /// None once it is dropped.
    body: Option<B>,
    most: usize,
    ended: bool,
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Leftover<B> {
    pub(super) fn new(body: B, most: usize) -> Self {
        Self { body: Some(body), most, ended: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Body for Leftover<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        self.ended |= matches!(frame, Poll::Ready(None | Some(Err(_))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Drop for Leftover<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !self.ended && !body.is_end_stream()) else {
            return;
        };
        // Without a runtime the connection is gone, too.
        let Ok(runtime) = Handle::try_current() else { return };
        let most = self.most;
        runtime.spawn(async move {
            let mut taken = 0;
            let rest = async {
                while let Some(Ok(frame)) = body.frame().await {
                    taken += frame.data_ref().map_or(0, Bytes::len);
                    if taken > most {
                        break;
                    }
                }
            };
            // Who takes longer has its stream reset after all.
            let _ = tokio::time::timeout(PATIENCE, rest).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    /// A body of so many frames of 10 bytes, each 900 ms after the one before; counts those that were taken.
    fn body(
        frames: usize,
        taken: &Arc<AtomicUsize>,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + Send + use<> {
        let taken = Arc::clone(taken);
        let frames = stream::unfold(0, move |sent| {
            let taken = Arc::clone(&taken);
            async move {
                tokio::time::sleep(Duration::from_millis(900)).await;
                let frame = (sent < frames).then(|| Frame::data(Bytes::from_static(b"0123456789")))?;
                taken.fetch_add(1, Ordering::SeqCst);
                Some((Ok(frame), sent + 1))
            }
        });
        StreamBody::new(Box::pin(frames))
    }

    async fn taken_of(frames: usize, most: usize, read: usize) -> usize {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut leftover = Leftover::new(body(frames, &taken), most);
        for _ in 0..read {
            let _ = leftover.frame().await;
        }
        drop(leftover);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(Arc::strong_count(&taken), 1, "the body itself is gone");
        taken.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_taken_within_bounds() {
        assert_eq!(taken_of(3, 100, 0).await, 3);
        assert_eq!(taken_of(3, 100, 1).await, 3);
        assert_eq!(taken_of(3, 100, 4).await, 3);
        assert_eq!(taken_of(9, 20, 0).await, 3, "no more than the bytes allow");
        assert_eq!(taken_of(9, 1000, 0).await, 5, "nor than the time does");
    }
}
