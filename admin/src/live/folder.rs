//! Where the sockets of the data planes are, beside the store: one per process, and the token that guards them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use zeroize::Zeroizing;

/// Longest path that fits into a socket address (`sun_path` without its end), bytes.
const ADDRESS_MAX: usize = 107;
/// Most data planes of one store.
pub const PLANES_MAX: usize = 64;
const SUFFIX: &str = ".sock";
const TOKEN: &str = "token";
const TOKEN_BYTES: usize = 32;
/// Longest token that is read back: its bytes as hex.
const TOKEN_LENGTH: usize = 2 * TOKEN_BYTES;

/// `<store>.planes`, which only its owner may enter.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder beside a store; nothing is made yet.
    #[must_use]
    pub fn beside(store: &Path) -> Self {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".planes");
        Self(store.with_file_name(name))
    }

    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// The token, made by whoever comes first.
    pub(super) fn token(&self) -> io::Result<Zeroizing<String>> {
        match self.read_token() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        rand::fill(bytes.as_mut()).map_err(|_| io::Error::other("no randomness"))?;
        let token =
            Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        // Linked into place: nobody reads half a token, and the first one stays.
        let draft = self.0.join(format!("{TOKEN}.{}", std::process::id()));
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(token.as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&draft, self.0.join(TOKEN));
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.read_token(),
        }
    }

    fn read_token(&self) -> io::Result<Zeroizing<String>> {
        let token = Zeroizing::new(fs::read_to_string(self.0.join(TOKEN))?);
        let whole =
            token.len() == TOKEN_LENGTH && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        whole.then_some(token).ok_or_else(|| io::Error::other("the planes' token is damaged"))
    }

    /// The names of all sockets, in order.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            names.extend(
                name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::to_owned),
            );
        }
        names.sort_unstable();
        names.truncate(PLANES_MAX);
        Ok(names)
    }

    pub(super) fn connect(&self, name: &str) -> io::Result<UnixStream> {
        let connected = UnixStream::connect(&self.address(&format!("{name}{SUFFIX}"))?.path);
        if connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            // A socket is listened on before it gets this name, so its process is gone.
            let _ = fs::remove_file(self.0.join(format!("{name}{SUFFIX}")));
        }
        connected
    }

    /// Listens under this process's number; processes of other containers may have the same one.
    pub(super) fn listen(&self) -> io::Result<(UnixListener, Named)> {
        for name in self.names()? {
            let _ = self.connect(&name);
        }
        let pid = std::process::id();
        let draft = format!("{pid}.new");
        let _ = fs::remove_file(self.0.join(&draft));
        let listener = UnixListener::bind(&self.address(&draft)?.path)?;
        fs::set_permissions(self.0.join(&draft), Permissions::from_mode(0o600))?;
        for number in 1..PLANES_MAX {
            let name = if number == 1 { pid.to_string() } else { format!("{pid}-{number}") };
            let path = self.0.join(format!("{name}{SUFFIX}"));
            match fs::hard_link(self.0.join(&draft), &path) {
                Ok(()) => {
                    fs::remove_file(self.0.join(&draft))?;
                    return Ok((listener, Named { name, path }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("there are too many sockets beside the store"))
    }

    fn address(&self, file: &str) -> io::Result<Address> {
        let path = self.0.join(file);
        if path.as_os_str().len() <= ADDRESS_MAX {
            return Ok(Address { path, _folder: None });
        }
        let folder = File::open(&self.0)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(file);
        Ok(Address { path, _folder: Some(folder) })
    }
}

/// A socket of ours, whose file goes with it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    path: PathBuf,
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The address of a socket. One whose path is too long is reached through its open folder.
struct Address {
    path: PathBuf,
    _folder: Option<File>,
}
