/* Asking through other programs: a pinentry and a systemd-ask-password that are played by shell scripts. */
#include "pkcs11_fixture.h"

#include "base/clock.h"
#include "pkcs11/ask_password.h"
#include "pkcs11/helper.h"
#include "pkcs11/pinentry.h"

#include <dirent.h>
#include <errno.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>

/* A script in the folder; "said" there takes what it hears. */
static const char *script(const char *body)
{
    char text[4096];
    char *path = fixture_path("program");

    (void)snprintf(text, sizeof(text), "#!/bin/sh\ncd '%s'\n%s\n", fixture_folder, body);
    fixture_write_text(path, text);
    assert_int_equal(chmod(path, 0700), 0);
    return path;
}

/* A pinentry whose GETPIN is answered by `answers` (shell). */
static const char *pinentry(const char *answers)
{
    char body[2048];

    (void)snprintf(
        body, sizeof(body),
        "echo OK hello\nwhile read -r line; do\n  echo \"$line\" >>said\n  case $line in\n"
        "  GETPIN*) %s ;;\n  OPTION*) echo ERR 83886254 unknown ;;\n  BYE*) exit 0 ;;\n  *) echo OK ;;\n  esac\ndone\n",
        answers);
    (void)unlink(fixture_path("said"));
    return script(body);
}

static const char *said(void)
{
    static char text[8192];
    FILE *file = fopen(fixture_path("said"), "r");
    size_t n = 0;

    if (file != NULL) {
        n = fread(text, 1, sizeof(text) - 1, file);
        (void)fclose(file);
    }
    text[n] = '\0';
    return text;
}

static int descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        n++;
    (void)closedir(folder);
    return n;
}

typedef result ask_fn(const char *, const struct pin_prompt *, struct secret *, struct error *);

/* One question: ERROR_NONE and this PIN, or ERROR_PIN and a reason with this text in it. Nothing is left behind. */
static void expect(ask_fn *ask, const char *program, const struct pin_prompt *prompt, result wanted, const char *text)
{
    int before = descriptors();
    struct error err = ERROR_INIT;
    struct secret *secret = secret_new(&err);
    result r;

    assert_non_null(secret);
    r = ask(program, prompt, secret, &err);
    if (r != wanted)
        fail_msg("%s: %d, not %d: %s", program, (int)r, (int)wanted, err.text);
    if (wanted == ERROR_NONE) {
        assert_int_equal(secret_length(secret), strlen(text));
        assert_memory_equal(secret_bytes(secret), text, strlen(text));
    } else {
        assert_int_equal(secret_length(secret), 0);
        if (strstr(err.text, text) == NULL)
            fail_msg("\"%s\" is not in: %s", text, err.text);
    }
    secret_free(secret);
    assert_int_equal(descriptors(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child */
    assert_int_equal(errno, ECHILD);
}

static const struct pin_prompt prompt = {.token = "my 100% token",
                                         .identity = "finance",
                                         .error = "the PIN is wrong: CKR_PIN_INCORRECT",
                                         .tries = "few tries are left",
                                         .timeout_ms = 20000};

static const struct pin_prompt impatient = {.token = "t", .timeout_ms = 1};

static void pinentry_answers(void **state)
{
    (void)state;
    expect(pinentry_ask, pinentry("echo D 1234; echo OK"), &prompt, ERROR_NONE, "1234");
    assert_non_null(strstr(said(), "SETTITLE tokentls\n"));
    assert_non_null(strstr(said(), "SETDESC PIN of token \"my 100%25 token\" for finance%0Afew tries are left\n"));
    assert_non_null(strstr(said(), "SETERROR the PIN is wrong: CKR_PIN_INCORRECT\n"));
    assert_non_null(strstr(said(), "SETTIMEOUT 20\n"));
    assert_non_null(strstr(said(), "SETPROMPT PIN:\n"));
    /* in pieces, escaped, with status and comment lines between */
    expect(pinentry_ask, pinentry("echo D 12; echo '# x'; echo S PIN_REPEATED; echo D %33%25; echo OK"),
           &(struct pin_prompt){.token = "t"}, ERROR_NONE, "123%");
    assert_null(strstr(said(), "SETERROR"));
    expect(pinentry_ask, pinentry("echo D 4711; echo OK"), &(struct pin_prompt){.identity = "finance"}, ERROR_NONE,
           "4711");
    assert_non_null(strstr(said(), "SETDESC PIN for identity \"finance\"\n"));
}

static void pinentry_refuses(void **state)
{
    (void)state;
    expect(pinentry_ask, pinentry("echo ERR 83886179 cancelled"), &prompt, ERROR_PIN, "no PIN given: cancelled");
    expect(pinentry_ask, pinentry("echo ERR 83886142 timeout"), &prompt, ERROR_PIN, "nobody has answered in time");
    expect(pinentry_ask, pinentry("echo OK"), &prompt, ERROR_PIN, "empty");
    expect(pinentry_ask, pinentry("exit 3"), &prompt, ERROR_PIN, "has failed");
    expect(pinentry_ask, pinentry("echo HELLO"), &prompt, ERROR_PIN, "has failed");
    expect(pinentry_ask, pinentry("head -c 100000 /dev/zero | tr '\\\\0' 1; echo; echo OK"), &prompt, ERROR_PIN,
           "has failed");
    expect(pinentry_ask, pinentry("i=0; while [ $i -lt 9 ]; do printf 'D %0200d\\n' 1; i=$((i+1)); done; echo OK"),
           &prompt, ERROR_PIN, "longer than");
    expect(pinentry_ask, script("echo ERR 1 go away"), &prompt, ERROR_PIN, "has failed");
    expect(pinentry_ask, script("exit 0"), &prompt, ERROR_PIN, "has failed");
    expect(pinentry_ask, "/nonexistent/pinentry", &prompt, ERROR_PIN, "/nonexistent/pinentry: cannot be run");
    expect(pinentry_ask, fixture_folder, &prompt, ERROR_PIN, "has failed");
}

/* Whatever it does, it ends: in this process's time, not in its own. */
static void pinentry_hangs(void **state)
{
    (void)state;
    expect(pinentry_ask, script("exec sleep 1000"), &impatient, ERROR_PIN, "nobody has answered within");
    expect(pinentry_ask, pinentry("exec sleep 1000"), &impatient, ERROR_PIN, "nobody has answered within");
    expect(pinentry_ask, pinentry("while :; do echo '# x'; done"), &impatient, ERROR_PIN, "nobody has answered within");
    /* a grandchild that holds the socket, and a program that does not let itself be terminated */
    expect(pinentry_ask, script("trap '' TERM; sleep 3 & wait; wait"), &impatient, ERROR_PIN,
           "nobody has answered within");
    /* the answer is there, the program stays: the answer counts */
    expect(pinentry_ask,
           script("echo OK; while read -r l; do case $l in GETPIN*) echo D 12; echo OK; exec sleep 1000;; *) "
                  "echo OK;; esac; done"),
           &prompt, ERROR_NONE, "12");
}

static void ask_password(void **state)
{
    (void)state;
    expect(ask_password_run, script("printf '%s\\n' \"$@\" >said; echo 1234"), &prompt, ERROR_NONE, "1234");
    assert_non_null(strstr(said(), "--no-tty\n"));
    assert_non_null(strstr(said(), "--timeout=20\n"));
    assert_null(strstr(said(), "--accept-cached"));
    assert_non_null(
        strstr(said(), "CKR_PIN_INCORRECT - few tries are left - PIN of token \"my 100% token\" for finance:"));
    expect(ask_password_run, script("exit 1"), &prompt, ERROR_PIN, "cancelled");
    expect(ask_password_run, script("echo 1234; exit 1"), &prompt, ERROR_PIN, "cancelled");
    expect(ask_password_run, script("echo"), &prompt, ERROR_PIN, "cancelled");
    expect(ask_password_run, script("head -c 5000 /dev/zero | tr '\\0' 1"), &prompt, ERROR_PIN, "longer than");
    expect(ask_password_run, script("exec sleep 1000"), &impatient, ERROR_PIN, "nobody has answered within");
    expect(ask_password_run, "/nonexistent/ask", &prompt, ERROR_PIN, "cannot be run");
}

/* The real pinentry-curses on a terminal of its own: 0 with the PIN on the pipe, else the error's category. */
static int at_real_pinentry(const char *typed, char *got, size_t size)
{
    char shown[65536];
    int master, ends[2], status = 0;
    size_t length = 0;
    ssize_t n;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = forkpty(&master, NULL, NULL, NULL);
    assert_true(child >= 0);
    if (child == 0) {
        struct secret *secret = secret_new(NULL);
        struct error err = ERROR_INIT;
        result r;

        (void)unsetenv("DISPLAY");
        (void)unsetenv("GPG_TTY");
        (void)setenv("TERM", "vt100", 1);
        r = pinentry_ask("/usr/bin/pinentry-curses", &prompt, secret, &err);
        if (r == ERROR_NONE)
            (void)!write(ends[1], secret_bytes(secret), secret_length(secret));
        secret_free(secret);
        _exit((int)r);
    }
    (void)close(ends[1]);
    shown[0] = '\0';
    while (length < sizeof(shown) - 1 && strstr(shown, "PIN:") == NULL &&
           (n = read(master, shown + length, sizeof(shown) - 1 - length)) > 0) {
        length += (size_t)n;
        shown[length] = '\0';
    }
    assert_non_null(strstr(shown, "finance"));
    assert_non_null(strstr(shown, "CKR_PIN_INCORRECT"));
    assert_int_equal(write(master, typed, strlen(typed)), strlen(typed));
    while (read(master, shown, sizeof(shown)) > 0) /* to the end, or it would wait for us to take its picture */
        ;
    assert_int_equal(waitpid(child, &status, 0), child);
    n = read(ends[0], got, size - 1);
    got[n > 0 ? n : 0] = '\0';
    (void)close(ends[0]);
    (void)close(master);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void real_pinentry(void **state)
{
    char got[64];

    (void)state;
    if (access("/usr/bin/pinentry-curses", X_OK) != 0)
        skip();
    assert_int_equal(at_real_pinentry("271828\r", got, sizeof(got)), ERROR_NONE);
    assert_string_equal(got, "271828");
    assert_int_equal(at_real_pinentry("27\t\t\r", got, sizeof(got)), ERROR_PIN); /* the button "Cancel" */
    assert_string_equal(got, "");
}

static int setup(void **state)
{
    return fixture_make_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pinentry_answers), cmocka_unit_test(pinentry_refuses), cmocka_unit_test(pinentry_hangs),
        cmocka_unit_test(ask_password),     cmocka_unit_test(real_pinentry),
    };

    return cmocka_run_group_tests(tests, setup, fixture_stop);
}
