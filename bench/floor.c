/* The least that a container can cost: the kernel calls of a default container, with nothing between them.
 *
 *     floor TURNS LOWERDIRS WORKDIR PROGRAM [ARGUMENT...]
 *
 * Each turn makes the same six namespaces, overlay, mounts, device nodes, masked paths, capabilities and control groups
 * (v1: seven hierarchies; v2: one) as `sampan run --network none`, executes PROGRAM in them, waits for it and takes
 * everything away. As sampan does, the parent writes cgroup.procs while the child mounts. Prints one line of
 * milliseconds a turn. WORKDIR is an existing directory on a filesystem that can be an overlay's upper one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define RESTRICT (MS_NOSUID | MS_NOEXEC | MS_NODEV)

static const char *const v1[] = {"memory", "pids", "cpu", "cpuacct", "devices", "freezer", "blkio"};
static const char *const masked[] = {
    "proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats",
    "proc/sched_debug", "proc/scsi", "proc/timer_list", "proc/timer_stats", "sys/devices/virtual/powercap",
    "sys/firmware", "sys/devices/system/cpu/cpu0/thermal_throttle", "sys/devices/system/cpu/cpu1/thermal_throttle"};
static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
static const char *const files[] = {"hostname", "hosts", "resolv.conf"};
static const struct { const char *path; int major, minor; } nodes[] = {
    {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
    {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
static const struct { const char *path, *target; } links[] = {
    {"dev/fd", "/proc/self/fd"}, {"dev/stdin", "/proc/self/fd/0"}, {"dev/stdout", "/proc/self/fd/1"},
    {"dev/stderr", "/proc/self/fd/2"}, {"dev/ptmx", "pts/ptmx"}, {"dev/core", "/proc/kcore"}};
static const char *const devices[] = {
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
    "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm"};
/* Docker's default: chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap net_bind_service
 * sys_chroot kill audit_write. */
static const unsigned long long kept = 0xa80425fbULL;

static char lowerdirs[60000], work[3000], root[3100], name[64];
static int unified;

static void die(const char *what) {
    fprintf(stderr, "floor: can't %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void check(long result, const char *what) {
    if (result < 0) die(what);
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    check(fd, path);
    check(write(fd, text, strlen(text)), path);
    close(fd);
}

static const char *in(const char *directory, const char *rest) {
    static char path[16][4200];
    static int next;
    char *p = path[next++ % COUNT(path)];
    stpcpy(stpcpy(stpcpy(p, directory), "/"), rest);
    return p;
}

static const char *group(int i) {
    static char path[COUNT(v1)][200];
    if (unified) snprintf(path[i], sizeof path[i], "/sys/fs/cgroup/%s", name);
    else snprintf(path[i], sizeof path[i], "/sys/fs/cgroup/%s/%s", v1[i], name);
    return path[i];
}

static int groups(void) { return unified ? 1 : (int)COUNT(v1); }

static void bind_readonly(const char *source, const char *target, unsigned long flags) {
    check(mount(source, target, 0, MS_BIND | MS_REC, 0), target);
    check(mount(0, target, 0, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, 0), target);
}

static void make_dev(void) {
    check(mount("tmpfs", in(root, "dev"), "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
    for (size_t i = 0; i < COUNT(nodes); i++) {
        check(mknod(in(root, nodes[i].path), S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), "mknod");
        check(chmod(in(root, nodes[i].path), 0666), "chmod");
    }
    for (size_t i = 0; i < COUNT(links); i++) check(symlink(links[i].target, in(root, links[i].path)), "symlink");
    check(mkdir(in(root, "dev/pts"), 0755), "dev/pts");
    check(mkdir(in(root, "dev/shm"), 01777), "dev/shm");
    check(mkdir(in(root, "dev/mqueue"), 0755), "dev/mqueue");
    check(mount("devpts", in(root, "dev/pts"), "devpts", MS_NOSUID | MS_NOEXEC,
                "newinstance,ptmxmode=0666,mode=0620,gid=5"), "devpts");
    check(mount("shm", in(root, "dev/shm"), "tmpfs", RESTRICT, "mode=1777,size=65536k"), "shm");
    check(mount("mqueue", in(root, "dev/mqueue"), "mqueue", RESTRICT, 0), "mqueue");
}

static void make_cgroup_mounts(void) {
    char base[3200];
    stpcpy(stpcpy(base, root), "/sys/fs/cgroup");
    if (unified) {
        check(mount("cgroup2", base, "cgroup2", RESTRICT | MS_RDONLY, 0), "cgroup2");
        return;
    }
    check(mount("cgroup", base, "tmpfs", RESTRICT, "mode=755"), "sys/fs/cgroup");
    for (size_t i = 0; i < COUNT(v1); i++) {
        const char *target = in(base, v1[i]);
        check(mkdir(target, 0755), target);
        check(mount("cgroup", target, "cgroup", RESTRICT | MS_RDONLY, v1[i]), target);
    }
    check(mount(0, base, 0, MS_BIND | MS_REMOUNT | MS_RDONLY | RESTRICT, 0), base);
}

static void loopback_up(void) {
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(ioctl(fd, SIOCSIFFLAGS, &lo), "bring lo up");
    close(fd);
}

static void hide(void) {
    for (size_t i = 0; i < COUNT(readonly); i++)
        if (!access(in(root, readonly[i]), F_OK))
            bind_readonly(in(root, readonly[i]), in(root, readonly[i]), RESTRICT);
    for (size_t i = 0; i < COUNT(masked); i++) {
        struct stat found;
        const char *target = in(root, masked[i]);
        if (stat(target, &found)) continue;
        if (S_ISDIR(found.st_mode)) check(mount("tmpfs", target, "tmpfs", MS_RDONLY, 0), target);
        else check(mount(in(root, "dev/null"), target, 0, MS_BIND, 0), target);
    }
}

static void drop_capabilities(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {0, 0, 0}};
    for (int number = 0; number <= 40; number++)
        if (!(kept >> number & 1)) prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
    check(syscall(SYS_capset, &head, data), "capset");
}

static void child(int ready, char **program) {
    char options[70000], byte;
    check(mount(0, "/", 0, MS_REC | MS_SLAVE, 0), "make / slave");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lowerdirs, work, work);
    check(mount("overlay", root, "overlay", 0, options), "overlay");
    check(mount("proc", in(root, "proc"), "proc", RESTRICT, 0), "proc");
    make_dev();
    check(mount("sysfs", in(root, "sys"), "sysfs", RESTRICT | MS_RDONLY, 0), "sys");
    for (size_t i = 0; i < COUNT(files); i++)
        check(mount(in(work, files[i]), in(root, in("etc", files[i])), 0, MS_BIND, 0), files[i]);
    loopback_up();
    check(sethostname("floor", 5), "sethostname");
    check(read(ready, &byte, 1), "wait for the control groups");
    check(unshare(CLONE_NEWCGROUP), "unshare the cgroup namespace");
    make_cgroup_mounts();
    hide();
    check(chdir(root), root);
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount the old root");
    check(chdir("/"), "/");
    setsid();
    drop_capabilities();
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execv(program[0], program);
    die(program[0]);
}

static void make_groups(void) {
    for (int i = 0; i < groups(); i++) check(mkdir(group(i), 0755), group(i));
    if (unified) return;
    put(in(group(4), "devices.deny"), "a");
    for (size_t i = 0; i < COUNT(devices); i++) put(in(group(4), "devices.allow"), devices[i]);
}

static void remove_all(void) {
    for (int i = 0; i < groups(); i++) check(rmdir(group(i)), group(i));
    for (size_t i = 0; i < COUNT(files); i++) unlink(in(work, files[i]));
    rmdir(in(work, "work/work"));
    rmdir(in(work, "work"));
    rmdir(in(work, "root"));
    const char *const made[] = {"upper/etc/hostname", "upper/etc/hosts", "upper/etc/resolv.conf", "upper/etc"};
    for (size_t i = 0; i < COUNT(made); i++) remove(in(work, made[i]));
    check(rmdir(in(work, "upper")), "remove upper");
    check(rmdir(work), work);
}

static void make_directories(void) {
    const char *const made[] = {"", "upper", "work", "root", "upper/etc"};
    for (size_t i = 0; i < COUNT(made); i++) check(mkdir(in(work, made[i]), 0755), in(work, made[i]));
    for (size_t i = 0; i < COUNT(files); i++) {
        close(open(in(work, files[i]), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
        close(open(in(work, in("upper/etc", files[i])), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    }
}

static void turn(char **program) {
    int ready[2], status;
    char pid_text[20];
    make_directories();
    make_groups();
    check(pipe2(ready, O_CLOEXEC), "pipe");
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET, .exit_signal = SIGCHLD};
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    check(pid, "clone3");
    if (!pid) child(ready[0], program);
    snprintf(pid_text, sizeof pid_text, "%d", pid);
    for (int i = 0; i < groups(); i++) put(in(group(i), "cgroup.procs"), pid_text);
    check(write(ready[1], "", 1), "say that the control groups are there");
    check(waitpid(pid, &status, 0), "wait");
    close(ready[0]);
    close(ready[1]);
    remove_all();
    if (status) {
        fprintf(stderr, "floor: the program ended with status %d\n", status);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: floor TURNS LOWERDIRS WORKDIR PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    unified = !access("/sys/fs/cgroup/cgroup.controllers", F_OK);
    snprintf(lowerdirs, sizeof lowerdirs, "%s", argv[2]);
    for (int i = 0; i < atoi(argv[1]); i++) {
        struct timespec begin, end;
        snprintf(name, sizeof name, "sampan-floor-%d-%d", getpid(), i);
        snprintf(work, sizeof work, "%s/%s", argv[3], name);
        stpcpy(stpcpy(root, work), "/root");
        clock_gettime(CLOCK_MONOTONIC, &begin);
        turn(argv + 4);
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%.3f\n", (end.tv_sec - begin.tv_sec) * 1e3 + (end.tv_nsec - begin.tv_nsec) / 1e6);
        fflush(stdout);
    }
    return 0;
}
