#include "tests/mock-module/faults.h"
#include "tests/mock-module/counters.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_MAX 16384 /* bytes of the control file */
#define HANG_LOOK_MS 20   /* how often a hanging call looks at the control file */

struct row {
    const char *name;
    enum faults_point point;
    enum faults_kind kind;
    unsigned long value;
    enum faults_aftermath aftermath;
};

static const struct row rows[FAULTS_COUNT] = {
#define FAULTS_ROW(id, name, point, kind, value, aftermath)                                                            \
    [FAULT_##id] = {name, FAULTS_AT_##point, FAULTS_##kind, value, FAULTS_AFTER_##aftermath},
    FAULTS_TABLE(FAULTS_ROW)
#undef FAULTS_ROW
};

static const char *const counter_names[COUNTERS_END - FAULTS_COUNT] = {
    [COUNTER_INITIALIZE - FAULTS_COUNT] = "C_Initialize",
    [COUNTER_FINALIZE - FAULTS_COUNT] = "C_Finalize",
    [COUNTER_OPEN_SESSION - FAULTS_COUNT] = "C_OpenSession",
    [COUNTER_CLOSE_SESSION - FAULTS_COUNT] = "C_CloseSession",
    [COUNTER_LOGIN - FAULTS_COUNT] = "C_Login",
    [COUNTER_LOGIN_CONTEXT - FAULTS_COUNT] = "C_Login context-specific",
    [COUNTER_LOGIN_FAILED - FAULTS_COUNT] = "C_Login failed",
    [COUNTER_LOGOUT - FAULTS_COUNT] = "C_Logout",
    [COUNTER_FIND_OBJECTS_INIT - FAULTS_COUNT] = "C_FindObjectsInit",
    [COUNTER_GENERATE - FAULTS_COUNT] = "C_GenerateKeyPair",
    [COUNTER_CREATE - FAULTS_COUNT] = "C_CreateObject",
    [COUNTER_DESTROY - FAULTS_COUNT] = "C_DestroyObject",
    [COUNTER_INIT_TOKEN - FAULTS_COUNT] = "C_InitToken",
    [COUNTER_SIGN_INIT - FAULTS_COUNT] = "C_SignInit",
    [COUNTER_SIGN - FAULTS_COUNT] = "C_Sign",
    [COUNTER_WAIT - FAULTS_COUNT] = "C_WaitForSlotEvent",
    [COUNTER_CONCURRENT - FAULTS_COUNT] = "violation concurrent call",
    [COUNTER_STALE_SESSION - FAULTS_COUNT] = "stale session",
};

/* What the control file says of one fault. */
struct setting {
    bool on;
    unsigned long argument;
    uint64_t after, times;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct setting settings[FAULTS_COUNT];
static struct stat control_seen; /* zeroed: no file */

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "tokentls-faults: control file: %s: \"%s\"\n", what, detail);
    abort();
}

static struct setting *setting_named(const char *name)
{
    for (unsigned i = 0; i < FAULTS_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            settings[i] = (struct setting){.on = true, .argument = rows[i].value, .times = UINT64_MAX};
            return &settings[i];
        }
    }
    die("unknown fault", name);
    return NULL;
}

static unsigned long number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 0);

    if (end == text || *end)
        die("not a number", text);
    return value;
}

static void parse_line(char *line)
{
    char *save = NULL;
    char *word = strtok_r(line, " \t\r", &save);
    struct setting *setting;

    if (!word || word[0] == '#')
        return;
    setting = setting_named(word);
    while ((word = strtok_r(NULL, " \t\r", &save)) != NULL) {
        if (strncmp(word, "times=", 6) == 0)
            setting->times = number(word + 6);
        else if (strncmp(word, "after=", 6) == 0)
            setting->after = number(word + 6);
        else
            setting->argument = number(word);
    }
}

/* A last line without its newline is still being written: it waits for the next look. */
static void parse(char *text)
{
    char *end;

    for (; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        *end = '\0';
        parse_line(text);
    }
}

/* With the lock held: read the control file again if it is another one than before. */
static void look(void)
{
    const char *path = getenv("TOKENTLS_FAULTS");
    char text[CONTROL_MAX];
    struct stat now = {0};
    size_t length;
    FILE *file;

    if (!path || stat(path, &now) != 0)
        memset(&now, 0, sizeof now);
    if (now.st_ino == control_seen.st_ino && now.st_size == control_seen.st_size &&
        now.st_mtim.tv_sec == control_seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == control_seen.st_mtim.tv_nsec)
        return;
    control_seen = now;
    memset(settings, 0, sizeof settings);
    counters_generation((uint64_t)now.st_mtim.tv_sec * 1000000000U + (uint64_t)now.st_mtim.tv_nsec + now.st_ino);
    if (!path || now.st_ino == 0 || (file = fopen(path, "re")) == NULL)
        return;
    length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    parse(text);
}

void faults_open(void)
{
    const char *names[COUNTERS_END];

    for (unsigned i = 0; i < COUNTERS_END; i++)
        names[i] = i < FAULTS_COUNT ? rows[i].name : counter_names[i - FAULTS_COUNT];
    pthread_mutex_lock(&lock);
    counters_open(names, COUNTERS_END);
    look();
    pthread_mutex_unlock(&lock);
}

bool faults_is_on(enum faults_id id, unsigned long *ret_argument)
{
    struct setting setting;

    pthread_mutex_lock(&lock);
    look();
    setting = settings[id];
    pthread_mutex_unlock(&lock);
    if (setting.on && ret_argument)
        *ret_argument = setting.argument;
    return setting.on;
}

bool faults_strikes(enum faults_id id, unsigned long *ret_argument)
{
    struct setting setting;
    uint64_t turn;

    pthread_mutex_lock(&lock);
    look();
    setting = settings[id];
    turn = setting.on ? counters_turn((unsigned)id) : 0;
    pthread_mutex_unlock(&lock);
    if (!setting.on || turn < setting.after || turn - setting.after >= setting.times)
        return false;
    counters_add((unsigned)id);
    if (ret_argument)
        *ret_argument = setting.argument;
    return true;
}

static void wait_ms(unsigned long ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) != 0) /* lint: a slow token is what this is for */
        continue;
}

/* The lock belongs to the open file, which is this call's own: it holds between threads and between processes. */
static void wait_ms_alone(unsigned long ms)
{
    const char *path = getenv("TOKENTLS_FAULTS_COUNTERS");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        (void)fprintf(stderr, "tokentls-faults: sign__serial needs TOKENTLS_FAULTS_COUNTERS\n");
        abort();
    }
    wait_ms(ms);
    (void)close(fd);
}

void faults_hang(enum faults_id id)
{
    while (faults_is_on(id, NULL))
        wait_ms(HANG_LOOK_MS);
}

bool faults_strike_at(enum faults_point point, CK_RV *ret_rv, enum faults_aftermath *ret_aftermath)
{
    for (unsigned i = 0; i < FAULTS_COUNT; i++) {
        unsigned long argument = 0;

        if (rows[i].point != point || rows[i].kind == FAULTS_SPECIAL || rows[i].kind == FAULTS_FLAGS ||
            !faults_strikes((enum faults_id)i, &argument))
            continue;
        if (rows[i].kind == FAULTS_CRASH)
            abort();
        if (rows[i].kind == FAULTS_HANG)
            faults_hang((enum faults_id)i);
        if (rows[i].kind == FAULTS_SLOW)
            wait_ms(argument);
        if (rows[i].kind == FAULTS_SERIAL)
            wait_ms_alone(argument);
        if (rows[i].kind == FAULTS_RETURN) {
            *ret_rv = rows[i].value;
            *ret_aftermath = rows[i].aftermath;
            return true;
        }
    }
    return false;
}

CK_FLAGS faults_token_flags(void)
{
    CK_FLAGS flags = 0;

    for (unsigned i = 0; i < FAULTS_COUNT; i++) {
        if (rows[i].kind == FAULTS_FLAGS && faults_strikes((enum faults_id)i, NULL))
            flags |= rows[i].value;
    }
    return flags;
}

void faults_count(enum faults_counter counter)
{
    counters_add((unsigned)counter);
}
