//! Certificates of the tests' own, a client that shows what was negotiated, and a TLS terminator before a scripted upstream.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use loadtest::Upstream;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::PATIENCE;

pub type Versions = &'static [&'static SupportedProtocolVersion];
pub const ANY: Versions = rustls::ALL_VERSIONS;
pub static TLS_12: Versions = &[&rustls::version::TLS12];
pub static TLS_13: Versions = &[&rustls::version::TLS13];

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Who signs a test's certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, PEM.
pub struct Leaf {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { cert, key: key.serialize_pem() }
    }
}

impl Leaf {
    /// Puts both files where a `[server.tls]` table looks for them.
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("cert.pem"), &self.cert).unwrap();
        std::fs::write(folder.join("key.pem"), &self.key).unwrap();
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }
}

/// A client's configuration that trusts `authority`.
pub fn client(authority: &Authority, versions: Versions, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A connection over TLS.
pub struct Secure(StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    /// Connects and shakes hands.
    pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self(StreamOwned::new(session, socket)))
    }

    pub fn alpn(&self) -> Option<String> {
        self.0.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    }

    pub fn version(&self) -> ProtocolVersion {
        self.0.conn.protocol_version().unwrap()
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// What has come once it contains `text`.
    pub fn read_until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        while memchr::memmem::find(&read, text.as_bytes()).is_none() {
            let mut buffer = [0; 4096];
            let n = self.0.read(&mut buffer).unwrap();
            assert!(n > 0, "ended before {text:?}: {}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Everything until the connection is closed in order.
    pub fn rest(&mut self) -> String {
        let mut read = Vec::new();
        self.0.read_to_end(&mut read).unwrap();
        String::from_utf8_lossy(&read).into_owned()
    }
}

/// Asks once and reads the answer to its end.
pub fn get(addr: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> String {
    let mut secure = Secure::connect(addr, config).unwrap();
    secure.send(format!("GET {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n"));
    secure.rest()
}

/// Terminates TLS before an upstream, on a free port.
pub struct Terminator {
    pub addr: SocketAddr,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl Terminator {
    pub fn start(leaf: &Leaf, upstream: &Upstream) -> Self {
        let chain = vec![leaf.der()];
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (names, target) = (Arc::new(Mutex::new(Vec::new())), upstream.addr());
        let seen = Arc::clone(&names);
        let serve = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(socket).await else { return };
                    let name = tls.get_ref().1.server_name().map(str::to_owned);
                    seen.lock().unwrap().push(name);
                    let Ok(mut clear) = tokio::net::TcpStream::connect(target).await else {
                        return;
                    };
                    // Whichever side leaves, the other one hears of it.
                    let _ = tokio::io::copy_bidirectional(&mut tls, &mut clear).await;
                });
            }
        };
        // It ends with the test's process.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve);
        });
        Self { addr, names }
    }

    /// The names that clients asked for in their hellos so far.
    pub fn names(&self) -> Vec<Option<String>> {
        self.names.lock().unwrap().clone()
    }
}
