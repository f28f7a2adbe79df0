//! The server behind TLS, with certificates of one's own.

use std::{path::Path, sync::Arc};

use analytics_kit::{Error, ErrorKind};
use analytics_temporal::{ConnectOptions, Connection};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};

use crate::world;

/// The name in the server's certificate.
const NAME: &str = "temporal.example";

/// Something that ends TLS before the server. It takes clients only that have
/// a certificate of the same authority.
struct Front {
    address: String,
    /// `ca.pem`, `client.pem` and `client.key`.
    files: TempDir,
}

impl Front {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let write = |name: &str, content: String| {
            std::fs::write(files.path().join(name), content).unwrap();
        };
        write("ca.pem", authority.pem());
        let signed = || {
            let params = CertificateParams::new([NAME.to_owned()]).unwrap();
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (client, client_key) = signed();
        write("client.pem", client.pem());
        write("client.key", client_key.serialize_pem());
        let (server, server_key) = signed();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let chain: Vec<CertificateDer<'static>> = vec![server.der().clone()];
        let server_key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, server_key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut server = TcpStream::connect(world::address()).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                });
            }
        });
        Self { address, files }
    }

    fn file(&self, name: &str) -> Option<std::path::PathBuf> {
        Some(Path::join(self.files.path(), name))
    }

    /// Whoever is known, and knows the server.
    fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::isolated(&self.address).api_key("hunter2");
        options.tls_server_ca = self.file("ca.pem");
        options.tls_server_name = Some(NAME.to_owned());
        options.tls_cert = self.file("client.pem");
        options.tls_key = self.file("client.key");
        options
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_have_to_be_known() {
    let front = Front::start().await;
    let connection = front.options().connect().await.unwrap();
    assert_eq!(connection.address(), format!("https://{}/", front.address));
    assert!(!connection.has_worker().await.unwrap());
    let refused = async |change: &dyn Fn(&mut ConnectOptions)| {
        let mut options = front.options();
        change(&mut options);
        let refused: Result<Connection, Error> = options.connect().await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let said = format!("{error} {error:?}");
        assert!(!said.contains("hunter2"), "{said}");
        said
    };
    let said = refused(&|options| options.tls_server_ca = None).await;
    assert!(said.contains("UnknownIssuer"), "{said}");
    let said = refused(&|options| options.tls_server_name = None).await;
    assert!(said.contains("not valid for name"), "{said}");
    // The server hangs up: whether it says why is a matter of who is faster.
    let _ = refused(&|options| (options.tls_cert, options.tls_key) = (None, None)).await;
    let _ = refused(&|options| options.tls = Some(false)).await;
}
