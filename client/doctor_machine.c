#include "client/doctor_checks.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PCSCD_SOCKET "/run/pcscd/pcscd.comm"
#define PCSCD_PROGRAM "/usr/sbin/pcscd"
#define POLKIT_ACTIONS "/usr/share/polkit-1/actions/org.debian.pcsc-lite.policy"
#define POLKIT_NAME "org.debian.pcsc-lite"
#define RULE_MAX ((size_t)64 * 1024) /* bytes of a rule file */

/* A year before which no machine with this program can be. */
#define YEAR_MIN 2026

static const char *pcscd_socket(void)
{
    const char *other = getenv("PCSCLITE_CSOCK_NAME"); /* libpcsclite follows it too */

    return other != NULL ? other : PCSCD_SOCKET;
}

/* Connect and leave: 0, or why not. */
static int try_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, reason = 0;

    if (strlen(path) >= sizeof(address.sun_path))
        return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EAGAIN)
        reason = errno;
    (void)close(fd);
    return reason;
}

/* Does a rule in `folder` speak of pcscd? -1: the folder cannot be read. */
static int rule_in(const char *folder)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;
    int found = 0;

    if (directory == NULL)
        return errno == ENOENT ? 0 : -1;
    while (found == 0 && (entry = readdir(directory)) != NULL) {
        struct file_content content = {0};
        char path[512];

        (void)snprintf(path, sizeof(path), "%.200s/%.255s", folder, entry->d_name);
        if (entry->d_name[0] != '.' && file_read(path, RULE_MAX, &content, NULL) == ERROR_NONE)
            found = strstr((const char *)content.data, POLKIT_NAME) != NULL;
        file_content_free(&content);
    }
    (void)closedir(directory);
    return found;
}

/* polkit lets sessions at the machine use readers, and nobody else: services and ssh logins need a rule. */
static void check_polkit(struct doctor *doctor, const char *user)
{
    static const char *const folders[] = {"/etc/polkit-1/rules.d", "/usr/share/polkit-1/rules.d",
                                          "/run/polkit-1/rules.d", "/usr/local/share/polkit-1/rules.d"};
    bool unreadable = false;

    if (access(POLKIT_ACTIONS, F_OK) != 0 || (user != NULL ? text_equal(user, "root") : geteuid() == 0)) {
        doctor_say(doctor, DOCTOR_OK, "polkit", NULL, "does not stand between %s and the readers",
                   user != NULL ? user : "this user");
        return;
    }
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        int found = rule_in(folders[i]);

        unreadable = unreadable || found < 0;
        if (found > 0) {
            doctor_say(doctor, DOCTOR_OK, "polkit", NULL, "a rule in %s is about readers", folders[i]);
            return;
        }
    }
    if (unreadable)
        doctor_say(doctor, DOCTOR_WARNING, "polkit", "run doctor as root to see the rules",
                   "pcscd asks polkit who may use readers, and its rules cannot be read");
    else
        doctor_say(doctor, DOCTOR_WARNING, "polkit",
                   "a file in /etc/polkit-1/rules.d that returns polkit.Result.YES for " POLKIT_NAME
                   ".access_pcsc and " POLKIT_NAME ".access_card when subject.user is the daemon's user",
                   "pcscd asks polkit who may use readers: without a rule only sessions at the machine itself may, no "
                   "service and no ssh login");
}

void doctor_machine_check_reader(struct doctor *doctor, const char *user)
{
    const char *path = pcscd_socket();
    int reason = try_socket(path);

    doctor->area = "reader";
    if (reason == 0) {
        doctor_say(doctor, DOCTOR_OK, "pcscd", NULL, "answers on %s", path);
        check_polkit(doctor, user);
    } else if (reason == ENOENT && access(PCSCD_PROGRAM, X_OK) != 0) {
        doctor_say(doctor, DOCTOR_OK, "pcscd", NULL, "is not installed; only smartcards and USB keys need it");
    } else if (reason == ENOENT) {
        doctor_say(doctor, DOCTOR_WARNING, "pcscd", "systemctl enable --now pcscd.socket",
                   "is installed and not running; smartcards and USB keys need it");
    } else if (reason == EACCES) {
        doctor_say(doctor, DOCTOR_PROBLEM, "pcscd", "look at the permissions of the socket and of its folder", "%s: %s",
                   path, strerror(reason));
    } else {
        doctor_say(doctor, DOCTOR_PROBLEM, "pcscd", "systemctl restart pcscd.socket pcscd.service",
                   "does not answer on %s: %s", path, strerror(reason));
    }
}

void doctor_machine_check_clock(struct doctor *doctor)
{
    struct timex state = {.modes = 0};
    time_t now = time(NULL);
    struct tm tm;
    char text[32] = "";
    int clock_state = adjtimex(&state);

    doctor->area = "clock";
    (void)gmtime_r(&now, &tm);
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (tm.tm_year + 1900 < YEAR_MIN)
        doctor_say(doctor, DOCTOR_PROBLEM, "time", "set the clock; without a battery it starts in the past",
                   "%s cannot be: certificates will seem not to be valid yet", text);
    else if (clock_state < 0)
        doctor_say(doctor, DOCTOR_OK, "time", NULL, "%s; the kernel does not tell whether it is synchronised", text);
    else if (clock_state == TIME_ERROR || (state.status & STA_UNSYNC) != 0)
        doctor_say(doctor, DOCTOR_WARNING, "time",
                   "timedatectl set-ntp true, unless something outside (a hypervisor) keeps the clock",
                   "%s; not synchronised by NTP, as far as the kernel knows", text);
    else
        doctor_say(doctor, DOCTOR_OK, "time", NULL, "%s, synchronised", text);
}
