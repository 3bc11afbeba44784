//! What if a process forks while it holds a producer and a consumer? The child gets clear errors and harms nothing;
//! the parent goes on.

mod fake;

use std::time::Duration;

use fake::partition::serve;
use ringway_client::{AdminError, OpenError, RecvError, SendError, StartAt};

/// Runs `child` in a forked child; returns the number of the first check in it that failed, 0 for none.
fn in_forked_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `child` alone, which takes no lock that another thread may have held, and
    // leaves without unwinding or running exit handlers.
    match unsafe { libc::fork() } {
        0 => {
            let failed = child();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(failed) }
        }
        pid => {
            assert!(pid > 0, "fork failed");
            let mut status = 0;
            // SAFETY: `status` is a local that outlives the call.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status), "the child was killed by signal {}", libc::WTERMSIG(status));
            libc::WEXITSTATUS(status)
        }
    }
}

#[test]
fn a_forked_child_is_refused_and_its_parent_goes_on() {
    let (_broker, connection, log) = serve(8);
    connection.declare_subscription("s", "c", StartAt::Next).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "c").open().unwrap();
    producer.send(b"before").unwrap();
    assert_eq!(consumer.recv().unwrap().payload(), b"before");

    // The child works on its copies of the handles and ends without giving them back to the parent.
    let mut handles = Some((producer, consumer, connection.clone()));
    let failed = in_forked_child(|| {
        let (mut producer, mut consumer, connection) = handles.take().expect("just put there");
        let soon = Duration::from_millis(1);
        let checks = [
            matches!(producer.send(b"x"), Err(SendError::Forked)),
            matches!(producer.try_send(b"x"), Err(SendError::Forked)),
            matches!(producer.send_timeout(b"x", soon), Err(SendError::Forked)),
            producer.send_batch([b"x"]).is_err_and(|error| matches!(error.source, SendError::Forked)),
            matches!(consumer.try_recv(), Err(RecvError::Forked)),
            matches!(consumer.recv(), Err(RecvError::Forked)),
            matches!(consumer.recv_timeout(soon), Err(RecvError::Forked)),
            matches!(consumer.commit(), Err(RecvError::Forked)),
            matches!(connection.stream("s"), Err(AdminError::Forked)),
            matches!(connection.stop_broker(soon), Err(AdminError::Forked)),
            matches!(connection.producer("s").open(), Err(OpenError::Forked)),
            !connection.is_open(),
        ];
        // Something is left to commit; the child must not.
        drop(consumer);
        // What the child maps now may lie where the parent's rings do; dropping the handle must not unmap it.
        let own: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 18]).collect();
        drop(producer);
        drop(connection);
        let whole = own.iter().flatten().all(|&byte| byte == 1);
        let first = checks.iter().chain([&whole]).position(|&passed| !passed);
        first.map_or(0, |index| index as i32 + 1)
    });
    assert_eq!(failed, 0, "number of the check that failed in the child");

    let (mut producer, mut consumer, connection) = handles.take().expect("the parent's own");
    assert_eq!(log.closes(), 0, "the child gave nothing back");
    assert_eq!(producer.send(b"after").unwrap().position, 1);
    assert_eq!(consumer.recv().unwrap().payload(), b"after");
    assert_eq!(connection.stream("s").unwrap().partitions[0].next_position, 2);
}
