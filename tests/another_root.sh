# Runs a command in another root: bash another_root.sh ROOT COMMAND...
# Mounts and processes are in namespaces, which end with the command; the network is this machine's.
set -eu
if [ "$1" != inside ]; then
    exec unshare --mount --pid --fork --kill-child "$BASH" "$0" inside "$@"
fi
root=$2
shift 2
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
pivot_root . . # not chroot, in which the kernel makes no user namespaces, as some tests do
umount -l .
cd /
trap : INT     # Ctrl-C is for the command
"$@" || exit # not exec: as the first process, this shell buries orphans
