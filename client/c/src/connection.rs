//! The connection to the broker: administration.
//!
//! Any threads may use a connection at the same time; one request is under way at a time. It may be closed while producers and
//! consumers that were opened through it are still in use: the session ends with the last of them.

use std::ffi::{CString, c_char, c_void};

use ringway_client::directory::default_directory;
use ringway_client::{Connection, ConnectionBuilder, SharedSettings, StreamSettings, SubscriptionMode};

use crate::boundary::{Failure, duration, enter, enter_or, null, optional_text, out, text};
use crate::code::Code;
use crate::handle::{Sort, give, share, take};
use crate::settings::{SharedSettingsOf, StreamInfoOf, StreamSettingsOf, SubscriptionInfoOf, cursor, start};

/// A session with the broker. Any threads may use it at the same time.
pub struct ConnectionHandle(());

impl Sort for ConnectionHandle {
    type Inner = Connection;
    const WORD: u64 = 0x7269_6e67_636f_6e6e;
    const NAME: &'static str = "connection";
}

/// Opens a session with the broker in `directory`; null: where a broker is looked for when nothing is said (`RINGWAY_DIR`,
/// else `ringway` in `XDG_RUNTIME_DIR`, else `/run/ringway` for root, else `/tmp/ringway-UID`). Waits at most ten seconds.
///
/// # Safety
///
/// `directory` is null or ends with a zero; `connection` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_open(
    directory: *const c_char,
    connection: *mut *mut ConnectionHandle,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (directory, connection) =
            unsafe { (optional_text("directory", directory)?, out("connection", connection)?) };
        connection.write(std::ptr::null_mut());
        connection.write(give(builder(directory).open()?));
        Ok(Code::Ok)
    })
}

/// The same, for a connection that looks for another broker for `reconnect_within_ns` when its own is gone: 30 seconds where nothing
/// is said, never for 0. Everything that was opened through it goes on there by itself.
///
/// # Safety
///
/// `directory` is null or ends with a zero; `connection` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_open_within(
    directory: *const c_char,
    reconnect_within_ns: u64,
    connection: *mut *mut ConnectionHandle,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (directory, connection) =
            unsafe { (optional_text("directory", directory)?, out("connection", connection)?) };
        connection.write(std::ptr::null_mut());
        let opened = builder(directory).reconnect_within(duration(reconnect_within_ns)).open()?;
        connection.write(give(opened));
        Ok(Code::Ok)
    })
}

fn builder(directory: Option<&str>) -> ConnectionBuilder {
    directory.map_or_else(|| Connection::builder(default_directory()), Connection::builder)
}

/// Ends the use of a connection by this handle; null is allowed. The session ends with the last producer and consumer.
///
/// # Safety
///
/// `connection` is null or a connection, which no thread uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_close(connection: *mut ConnectionHandle) -> Code {
    enter(|| {
        if !connection.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { take(connection)? });
        }
        Ok(Code::Ok)
    })
}

/// Whether the broker is still there: one system call, and it does not block.
///
/// # Safety
///
/// `connection` is null or a connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_is_open(connection: *const ConnectionHandle) -> bool {
    // SAFETY: the caller's promise.
    enter_or(false, || Ok(unsafe { share(connection)? }.is_open()))
}

/// The broker's process id, as the broker sees it; 0 when this is no connection.
///
/// # Safety
///
/// `connection` is null or a connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_broker_pid(connection: *const ConnectionHandle) -> u32 {
    // SAFETY: the caller's promise.
    enter_or(0, || Ok(unsafe { share(connection)? }.broker_pid()))
}

/// Makes a stream, or confirms that it exists with these settings (null: the default ones). `RINGWAY_CONFLICT`: it exists with
/// others.
///
/// # Safety
///
/// `connection` is a connection, `name` ends with a zero, `settings` is null or can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_declare_stream(
    connection: *const ConnectionHandle,
    name: *const c_char,
    settings: *const StreamSettingsOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, name, settings) =
            unsafe { (share(connection)?, text("name", name)?, settings.as_ref()) };
        let settings = settings.map_or(Ok(StreamSettings::DEFAULT), StreamSettingsOf::checked)?;
        connection.declare_stream(name, settings)?;
        Ok(Code::Ok)
    })
}

/// Makes a queue: a stream that keeps every message until it is acked, with one shared subscription of the same name; or
/// confirms that it exists with these settings (null: the default ones).
///
/// # Safety
///
/// `connection` is a connection, `name` ends with a zero, `settings` and `shared` are null or can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_declare_queue(
    connection: *const ConnectionHandle,
    name: *const c_char,
    settings: *const StreamSettingsOf,
    shared: *const SharedSettingsOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, name, settings, shared) =
            unsafe { (share(connection)?, text("name", name)?, settings.as_ref(), shared_settings(shared)?) };
        let settings = settings.map_or(Ok(StreamSettings::DEFAULT), StreamSettingsOf::checked)?;
        connection.declare_queue(name, settings, shared)?;
        Ok(Code::Ok)
    })
}

/// Makes an ordered subscription that starts at `start` (a `ringway_start`), or confirms that it exists, wherever it
/// stands then. `durable_only`: it delivers only what is on the device.
///
/// # Safety
///
/// `connection` is a connection, `stream` and `name` end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_declare_subscription(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    name: *const c_char,
    start_at: u32,
    durable_only: bool,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, stream, name) =
            unsafe { (share(connection)?, text("stream", stream)?, text("name", name)?) };
        let mode = SubscriptionMode::Cursor(cursor(durable_only));
        connection.declare_subscription_as(stream, name, start(start_at)?, mode)?;
        Ok(Code::Ok)
    })
}

/// Makes a shared subscription that starts at `start`, or confirms that it exists with these settings (null: the default
/// ones).
///
/// # Safety
///
/// `connection` is a connection, `stream` and `name` end with a zero, `settings` is null or can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_declare_shared_subscription(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    name: *const c_char,
    start_at: u32,
    settings: *const SharedSettingsOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, stream, name, settings) = unsafe {
            (share(connection)?, text("stream", stream)?, text("name", name)?, shared_settings(settings)?)
        };
        connection.declare_shared_subscription(stream, name, start(start_at)?, settings)?;
        Ok(Code::Ok)
    })
}

/// Describes a stream.
///
/// # Safety
///
/// `connection` is a connection, `name` ends with a zero, `info` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_stream(
    connection: *const ConnectionHandle,
    name: *const c_char,
    info: *mut StreamInfoOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, name, info) =
            unsafe { (share(connection)?, text("name", name)?, out("info", info)?) };
        info.write(StreamInfoOf::of(&connection.stream(name)?));
        Ok(Code::Ok)
    })
}

/// Describes all streams, in order of their names: `each` is called for every one, with its name, which is over with the call, and
/// `context`. It may use the connection, and must return.
///
/// # Safety
///
/// `connection` is a connection that `each` does not close; `each` is a function, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_streams(
    connection: *const ConnectionHandle,
    each: Option<unsafe extern "C" fn(context: *mut c_void, name: *const c_char, info: *const StreamInfoOf)>,
    context: *mut c_void,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, each) = unsafe { (share(connection)?, each.ok_or_else(|| null("each"))?) };
        for info in connection.streams()? {
            let (name, info) = (c_name(&info.name), StreamInfoOf::of(&info));
            // SAFETY: a function by the caller's promise.
            unsafe { each(context, name.as_ptr(), &raw const info) };
        }
        Ok(Code::Ok)
    })
}

/// Describes all subscriptions of a stream, as `ringway_connection_streams` does streams.
///
/// # Safety
///
/// As `ringway_connection_streams`; `stream` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_subscriptions(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    each: Option<
        unsafe extern "C" fn(context: *mut c_void, name: *const c_char, info: *const SubscriptionInfoOf),
    >,
    context: *mut c_void,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, stream) = unsafe { (share(connection)?, text("stream", stream)?) };
        let each = each.ok_or_else(|| null("each"))?;
        for info in connection.subscriptions(stream)? {
            let (name, info) = (c_name(&info.name), SubscriptionInfoOf::of(&info));
            // SAFETY: a function by the caller's promise.
            unsafe { each(context, name.as_ptr(), &raw const info) };
        }
        Ok(Code::Ok)
    })
}

/// Describes a subscription.
///
/// # Safety
///
/// `connection` is a connection, `stream` and `name` end with a zero, `info` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_subscription(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    name: *const c_char,
    info: *mut SubscriptionInfoOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, stream, name, info) =
            unsafe { (share(connection)?, text("stream", stream)?, text("name", name)?, out("info", info)?) };
        info.write(SubscriptionInfoOf::of(&connection.subscription(stream, name)?));
        Ok(Code::Ok)
    })
}

/// Removes a stream with its subscriptions. `RINGWAY_IN_USE` while somebody has it open.
///
/// # Safety
///
/// `connection` is a connection, `name` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_delete_stream(
    connection: *const ConnectionHandle,
    name: *const c_char,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, name) = unsafe { (share(connection)?, text("name", name)?) };
        connection.delete_stream(name)?;
        Ok(Code::Ok)
    })
}

/// Removes a subscription. `RINGWAY_IN_USE` while a consumer has it open.
///
/// # Safety
///
/// `connection` is a connection, `stream` and `name` end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_delete_subscription(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    name: *const c_char,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, stream, name) =
            unsafe { (share(connection)?, text("stream", stream)?, text("name", name)?) };
        connection.delete_subscription(stream, name)?;
        Ok(Code::Ok)
    })
}

/// Tells the broker to end and waits until its process and its keeper's are gone, at most `timeout_ns`; then
/// `RINGWAY_NO_ANSWER`.
///
/// # Safety
///
/// `connection` is a connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_stop_broker(
    connection: *const ConnectionHandle,
    timeout_ns: u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        unsafe { share(connection)? }.stop_broker(duration(timeout_ns))?;
        Ok(Code::Ok)
    })
}

/// A name that the broker has checked.
fn c_name(name: &str) -> CString {
    CString::new(name).expect("names have no zeros")
}

/// # Safety
///
/// `settings` is null or can be read, and its `dead_letter` is null or ends with a zero.
unsafe fn shared_settings(settings: *const SharedSettingsOf) -> Result<SharedSettings, Failure> {
    // SAFETY: the caller's promise.
    match unsafe { settings.as_ref() } {
        // SAFETY: the caller's promise.
        Some(settings) => unsafe { settings.checked() },
        None => Ok(SharedSettings::default()),
    }
}
