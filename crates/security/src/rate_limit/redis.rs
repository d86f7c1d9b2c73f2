//! Buckets in a Redis server: one script a request, by the server's clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Script, ServerErrorKind};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use super::RateLimitStorageError;
use super::gcra::{Cell, Decision};
use super::limit::Limit;
use super::table::tightest;

const CONNECT_WITHIN: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// While the server is away, requests do not wait for it; one of them asks again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// KEYS[1]: the bucket. ARGV[1]: 1 to take, 0 to look; then emission and tolerance of each quota, in
/// microseconds. Answers whether all quotas have room, and how far each is from full, in microseconds. The
/// stamps are printed by hand: Lua's own form of a number this long loses digits. 2^53 microseconds since 1970
/// end in the year 2255.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stamps = {}
local stored = redis.call('GET', KEYS[1])
if stored then
  for stamp in string.gmatch(stored, '%d+') do stamps[#stamps + 1] = tonumber(stamp) end
end
local quotas = (#ARGV - 1) / 2
local room = 1
local ahead = {}
for i = 1, quotas do
  local emission, tolerance = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  ahead[i] = math.min(math.max((stamps[i] or 0) - now, 0), tolerance)
  if ahead[i] + emission > tolerance then room = 0 end
end
if room == 1 and ARGV[1] == '1' then
  local text, longest = {}, 0
  for i = 1, quotas do
    ahead[i] = ahead[i] + tonumber(ARGV[2 * i])
    text[i] = string.format('%.0f', now + ahead[i])
    longest = math.max(longest, ahead[i])
  end
  redis.call('SET', KEYS[1], table.concat(text, ' '), 'PX', string.format('%.0f', math.ceil(longest / 1000) + 1))
end
table.insert(ahead, 1, room)
return ahead
";

pub(crate) struct SharedBuckets {
    client: Client,
    script: Script,
    link: Mutex<Link>,
}

enum Link {
    Up(MultiplexedConnection),
    Down { ask_at: Instant },
}

impl SharedBuckets {
    pub(crate) fn open(url: &SecretString) -> Result<Self, RateLimitStorageError> {
        let client = Client::open(url.expose_secret()).map_err(|_| RateLimitStorageError::Url)?;
        let link = Mutex::new(Link::Down { ask_at: Instant::now() });
        Ok(Self { client, script: Script::new(SCRIPT), link })
    }

    /// Takes one request from the bucket, or only looks.
    pub(crate) async fn ask(
        &self,
        key: &str,
        limit: &Limit,
        take: bool,
    ) -> Result<Decision, RateLimitStorageError> {
        let cells: Vec<Cell> = limit.quotas().map(Cell::in_microseconds).collect();
        let mut call = self.script.key(format!("taskiq-flow:rate:{{{key}}}"));
        call.arg(u8::from(take));
        for cell in &cells {
            call.arg(cell.emission_ns() / 1000).arg(cell.tolerance_ns() / 1000);
        }
        let mut connection = self.connection(false).await?;
        let answer =
            tokio::time::timeout(ANSWER_WITHIN, call.invoke_async::<Vec<u64>>(&mut connection)).await;
        let answer = answer.unwrap_or_else(|_| Err(timed_out())).map_err(|e| self.lost(&e))?;
        let (&room, ahead) = answer.split_first().ok_or(RateLimitStorageError::Refused)?;
        if ahead.len() != cells.len() {
            return Err(RateLimitStorageError::Refused);
        }
        let decisions = cells.iter().zip(ahead).map(|(cell, micros)| {
            let ahead_ns = micros.saturating_mul(1000);
            cell.describe(ahead_ns, room == 1 || cell.has_room(ahead_ns))
        });
        Ok(tightest(decisions, limit))
    }

    pub(crate) async fn ping(&self) -> Result<(), RateLimitStorageError> {
        let mut connection = self.connection(true).await?;
        let command = ::redis::cmd("PING");
        let answer = tokio::time::timeout(ANSWER_WITHIN, command.query_async::<()>(&mut connection)).await;
        answer.unwrap_or_else(|_| Err(timed_out())).map_err(|e| self.lost(&e))
    }

    /// The open connection; or a new one, when it is time to ask (`at_once`: now).
    async fn connection(&self, at_once: bool) -> Result<MultiplexedConnection, RateLimitStorageError> {
        match &mut *self.link.lock() {
            Link::Up(connection) => return Ok(connection.clone()),
            Link::Down { ask_at } if at_once || *ask_at <= Instant::now() => {
                *ask_at = Instant::now() + ASK_AGAIN_AFTER;
            }
            Link::Down { .. } => return Err(RateLimitStorageError::Away),
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let opening = self.client.get_multiplexed_async_connection_with_config(&config);
        let opened = tokio::time::timeout(CONNECT_WITHIN, opening).await;
        let mut connection = opened.unwrap_or_else(|_| Err(timed_out())).map_err(|e| self.lost(&e))?;
        // A server that wants a password takes the connection, and refuses the first command.
        let ping = ::redis::cmd("PING");
        let asked = tokio::time::timeout(ANSWER_WITHIN, ping.query_async::<()>(&mut connection)).await;
        asked.unwrap_or_else(|_| Err(timed_out())).map_err(|e| self.lost(&e))?;
        *self.link.lock() = Link::Up(connection.clone());
        tracing::info!("rate limits are shared");
        Ok(connection)
    }

    /// Gives up the connection, whatever the error: asking anew costs little, trusting a broken one does not.
    fn lost(&self, error: &RedisError) -> RateLimitStorageError {
        metrics::counter!("taskiq_flow_rate_limit_storage_errors_total").increment(1);
        let told = match error.kind() {
            ErrorKind::AuthenticationFailed => RateLimitStorageError::Credentials,
            ErrorKind::Server(ServerErrorKind::NoPerm) => RateLimitStorageError::Credentials,
            ErrorKind::Extension if error.code() == Some("NOAUTH") => RateLimitStorageError::Credentials,
            ErrorKind::Server(_) | ErrorKind::Extension => RateLimitStorageError::Refused,
            ErrorKind::Io if is_tls_fault(error) => RateLimitStorageError::Certificate,
            _ => RateLimitStorageError::Away,
        };
        let before = std::mem::replace(
            &mut *self.link.lock(),
            Link::Down { ask_at: Instant::now() + ASK_AGAIN_AFTER },
        );
        if matches!(before, Link::Up(_)) {
            tracing::error!(error = %told, "rate limits are no longer shared");
        }
        told
    }
}

/// Whether the other end answered, but not as one that may be trusted: rustls tells by this kind.
fn is_tls_fault(error: &RedisError) -> bool {
    let Some(source) = std::error::Error::source(error) else { return false };
    // The library hands out its shared pointer, not what it points to.
    let source = match source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>() {
        Some(shared) => shared.downcast_ref::<std::io::Error>(),
        None => source.downcast_ref::<std::io::Error>(),
    };
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::InvalidData)
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
