# Starts systemd as the first process of a machine of its own, in namespaces:
#   unshare --mount bash machine.sh FOLDER FILES DISK PYTHON SITE
# FOLDER, empty, receives `pid`, the number of that process. FILES are copied into an empty root in memory, DISK
# becomes its /var, /usr is this machine's. PYTHON (the interpreter's prefix) and SITE (installed packages) appear
# in /opt/streamrnn. All of it ends when standard input does.
set -eu
if [ "${1:-}" = inside ]; then
    shift
    folder=$1 files=$2 disk=$3 python=$4 site=$5
    root=$folder/root
    mkdir "$root"
    mount -t tmpfs -o mode=755 tmpfs "$root"
    cp -a "$files/"* "$root"
    cd "$root"
    mkdir -p dev etc home opt/streamrnn proc root run sys tmp usr var
    for name in bin sbin lib lib32 lib64 libx32; do # links into /usr
        [ ! -L "/$name" ] || cp -P "/$name" .
    done
    mount --bind /usr usr
    mount -o remount,bind,ro usr
    for pair in "$python:python" "$site:site"; do
        mkdir -p "opt/streamrnn/${pair##*:}"
        mount --bind "${pair%:*}" "opt/streamrnn/${pair##*:}"
        mount -o remount,bind,ro "opt/streamrnn/${pair##*:}"
    done
    mount --bind "$disk" var
    cp -r /etc/ld.so.conf.d etc/
    { echo /opt/streamrnn/python/lib && cat /etc/ld.so.conf; } >etc/ld.so.conf # that Python's own library first
    ldconfig -r .
    mount -t tmpfs -o mode=755 tmpfs dev
    for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
        # shellcheck disable=SC2086
        set -- $node
        mknod -m 666 "dev/$1" c "$2" "$3"
    done
    mkdir dev/shm dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
    read -r pid _ </proc/self/stat # as the outside numbers it: /proc is not yet the machine's own
    echo "$pid" >"$folder/pid.new"
    mount -t proc proc proc
    for path in proc/sys proc/sysrq-trigger; do # the kernel is everybody's
        [ ! -e "$path" ] || { mount --bind "$path" "$path" && mount -o remount,bind,ro "$path"; }
    done
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mv "$folder/pid.new" "$folder/pid"
    mkdir old
    pivot_root . old
    umount -l old
    rmdir old
    exec env -i container=streamrnn PATH=/usr/sbin:/usr/bin \
        setpriv --bounding-set=-audit_control,-audit_read,-sys_boot,-sys_module,-sys_rawio,-sys_time,-syslog \
        /lib/systemd/systemd --system --log-target=journal
fi
trap '' HUP INT TERM # what interrupts the tests closes standard input, too
folder=$1
groups=$folder/groups
mkdir "$groups"
mount -t cgroup2 cgroup2 "$groups"
group=$groups/streamrnn-test-$$
mkdir "$group"
(
    echo 0 >"$group/cgroup.procs"
    exec setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount --uts --ipc --net --cgroup \
        "$BASH" "$0" inside "$@" </dev/null
) &
machine=$!
cat >/dev/null
kill -KILL "$machine"
wait "$machine" || true
until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.05; done
