//! Certificates of clients, in DER.

use taskiq_flow_security::certificate::CertificateFacts;

pub fn certificate(data: &[u8]) {
    let Ok(facts) = CertificateFacts::from_der(data) else { return };
    assert_eq!(CertificateFacts::from_der(data).as_ref(), Ok(&facts));
    let mut longer = data.to_vec();
    longer.push(0);
    assert!(CertificateFacts::from_der(&longer).is_err(), "what follows a certificate is passed over");
    assert!(!facts.is_valid_at(facts.not_before()) || facts.not_before() <= facts.not_after());
}
