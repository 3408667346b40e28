//! Stand-in for the event loop while it is being written.
use crate::config::Config;
/// x
#[derive(Debug)]
pub struct EventLoop(std::net::SocketAddr);
/// x
#[derive(Debug, PartialEq, Eq)]
pub enum Running {
    /// x
    Yes,
    /// x
    No,
}
/// x
#[derive(Debug)]
pub struct StartError;
impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not built")
    }
}
impl StartError {
    /// x
    pub fn exit_code(&self) -> u8 {
        74
    }
}
impl EventLoop {
    /// x
    pub fn start(config: Config) -> Result<Self, StartError> {
        let ip: std::net::IpAddr = config.smarthost.host.parse().map_err(|_| StartError)?;
        Ok(Self((ip, config.smarthost.port).into()))
    }
    /// x
    pub fn turn(&mut self, wait_max: Option<std::time::Duration>) -> Result<Running, std::io::Error> {
        std::thread::sleep(wait_max.unwrap_or_default());
        Ok(Running::Yes)
    }
    /// x
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        std::slice::from_ref(&self.0)
    }
}
