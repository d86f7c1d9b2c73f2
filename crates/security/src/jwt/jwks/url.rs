//! The address of an issuer's keys.

use std::fmt;

use taskiq_flow_outbound::{NotReached, Reach, Url, literal};

/// The address of an issuer's keys, as written. Shown without its query.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(String);

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    /// No address at all, or of something else than a web server.
    #[error("it is no address such as https://idp.example.com/.well-known/jwks.json")]
    NotAUrl,
    /// Keys that anybody on the way can replace are nobody's.
    #[error(
        "keys that come over plain HTTP could be anybody's; write an https:// address (http:// is for this machine alone)"
    )]
    PlainHttp,
    /// A password in an address ends up in logs.
    #[error("the address has a user name or password; keys are public, leave them out")]
    Credentials,
    /// An address that is not reached.
    #[error("{reason}{}", hint(reason))]
    NotReached {
        /// Why not.
        reason: NotReached,
    },
}

fn hint(error: &NotReached) -> &'static str {
    match error {
        NotReached::NotPublic(_) => {
            "; `allow_private_jwks = true` lets keys be fetched from your own network"
        }
        NotReached::Metadata(_) | NotReached::NotLoopback(_) => "",
    }
}

impl JwksUrl {
    /// Checks the address, and says what it may reach. A literal address of this machine, or `localhost`, may be reached
    /// without `private`: whoever wrote it meant it.
    ///
    /// # Errors
    /// [`JwksUrlError`].
    pub(crate) fn check(&self, private: bool) -> Result<(Url, Reach), JwksUrlError> {
        let url: Url = self.0.parse().map_err(|_| JwksUrlError::NotAUrl)?;
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
            return Err(JwksUrlError::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(JwksUrlError::Credentials);
        }
        let here = match literal(&url) {
            Some(ip) => ip.to_canonical().is_loopback(),
            None => url.host_str() == Some("localhost"),
        };
        let reach = match (here, private) {
            (true, _) => Reach::Loopback,
            (false, true) => Reach::Internal,
            (false, false) => Reach::Internet,
        };
        if url.scheme() == "http" && reach != Reach::Loopback {
            return Err(JwksUrlError::PlainHttp);
        }
        reach.check(&url).map_err(|reason| JwksUrlError::NotReached { reason })?;
        Ok((url, reach))
    }
}

impl From<&str> for JwksUrl {
    fn from(text: &str) -> Self {
        JwksUrl(text.to_owned())
    }
}

impl fmt::Display for JwksUrl {
    /// Without user name, password, query and fragment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<Url>() {
            Ok(mut url) => {
                url.set_query(None);
                url.set_fragment(None);
                // Both fail only for addresses that cannot have any.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                f.write_str(url.as_str())
            }
            Err(_) => f.write_str("[no address]"),
        }
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_held_to_what_it_may_reach() {
        let not_public =
            |ip: &str| Err(JwksUrlError::NotReached { reason: NotReached::NotPublic(ip.parse().unwrap()) });
        for (url, private, result) in [
            ("https://idp.example.com/keys?x=1", false, Ok(Reach::Internet)),
            ("https://idp.example.com/keys", true, Ok(Reach::Internal)),
            ("https://localhost:8443/keys", false, Ok(Reach::Loopback)),
            ("http://localhost/keys", false, Ok(Reach::Loopback)),
            ("http://127.0.0.1:9000/keys", false, Ok(Reach::Loopback)),
            ("http://[::1]:9000/keys", false, Ok(Reach::Loopback)),
            ("http://127.1:9000/keys", false, Ok(Reach::Loopback)),
            ("https://10.0.0.7/keys", true, Ok(Reach::Internal)),
            ("https://10.0.0.7/keys", false, not_public("10.0.0.7")),
            ("https://[::ffff:192.168.0.1]/keys", false, not_public("::ffff:192.168.0.1")),
            ("http://10.0.0.7/keys", true, Err(JwksUrlError::PlainHttp)),
            ("http://localhost.evil.example/keys", false, Err(JwksUrlError::PlainHttp)),
            ("http://idp.example.com/keys", true, Err(JwksUrlError::PlainHttp)),
            ("https://u:p@idp.example.com/keys", false, Err(JwksUrlError::Credentials)),
            ("https://u@idp.example.com/keys", false, Err(JwksUrlError::Credentials)),
            ("file:///etc/passwd", false, Err(JwksUrlError::NotAUrl)),
            ("ftp://idp.example.com/keys", false, Err(JwksUrlError::NotAUrl)),
            ("idp.example.com/keys", false, Err(JwksUrlError::NotAUrl)),
            ("", false, Err(JwksUrlError::NotAUrl)),
        ] {
            let checked = JwksUrl::from(url).check(private).map(|(_, reach)| reach);
            assert_eq!(checked, result, "{url}");
        }
        for private in [false, true] {
            let metadata = JwksUrl::from("https://169.254.169.254/keys").check(private);
            assert!(matches!(metadata, Err(JwksUrlError::NotReached { reason: NotReached::Metadata(_) })));
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let url = JwksUrl::from("https://user:hunter2@idp.example.com/keys?token=hunter2#hunter2");
        assert_eq!(url.to_string(), "https://idp.example.com/keys");
        assert_eq!(format!("{url:?}"), "JwksUrl(https://idp.example.com/keys)");
        assert!(!JwksUrl::from("hunter2").to_string().contains("hunter2"));
    }
}
