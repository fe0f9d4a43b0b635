/* PIN sources, and the guard's record. */
#include "pkcs11_fixture.h"

#include "base/file.h"
#include "pkcs11/guard.h"
#include "pkcs11/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>

static struct pin_source *make(const char *kind, const char *name, int handed_over)
{
    struct error err = ERROR_INIT;
    struct pin_source *source;
    char text[700];

    (void)snprintf(text, sizeof(text), "%s%s", kind, name);
    if (pin_source_new(text, handed_over, &source, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return source;
}

static const struct pin_prompt anybody = {.token = "token"};

static void expect_pin(struct pin_source *source, const char *pin)
{
    struct error err = ERROR_INIT;
    struct secret *secret = NULL;

    if (pin_source_get(source, &anybody, &secret, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_int_equal(secret_length(secret), strlen(pin));
    assert_memory_equal(secret_bytes(secret), pin, strlen(pin));
    secret_free(secret);
}

static void expect_no_pin(struct pin_source *source, const char *reason)
{
    struct error err = ERROR_INIT;
    struct secret *secret = NULL;

    assert_int_equal(pin_source_get(source, &anybody, &secret, &err), ERROR_PIN);
    assert_int_equal(err.category, ERROR_PIN);
    assert_null(secret);
    if (strstr(err.text, reason) == NULL)
        fail_msg("\"%s\" is not in: %s", reason, err.text);
}

static void file_source(void **state)
{
    char *path = fixture_path("pin");
    struct pin_source *source = make("file:", path, -1);

    (void)state;
    expect_no_pin(source, "cannot open");
    fixture_write_text(path, "4711\r\n");
    expect_pin(source, "4711");
    fixture_write_text(path, "0815");
    expect_pin(source, "0815");
    assert_int_equal(chmod(path, 0640), 0);
    expect_no_pin(source, "open to group or others (mode 0640)");
    assert_int_equal(chmod(path, 0604), 0);
    expect_no_pin(source, "open to group or others");
    fixture_write_text(path, "\n");
    expect_no_pin(source, "empty");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_no_pin(source, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_no_pin(source, "not a regular file");
    assert_int_equal(rmdir(path), 0);
    pin_source_free(source);
    if (geteuid() == 0) {
        source = make("file:", path, -1);
        fixture_write_text(path, "1");
        assert_int_equal(chown(path, 12345, 12345), 0);
        expect_no_pin(source, "owned by uid 12345");
        pin_source_free(source);
    }
}

static void version_changes_with_the_file(void **state)
{
    char *path = fixture_path("pin2");
    struct pin_source *source = make("file:", path, -1), *constant = make("env:", "X", -1);
    char first[96], second[96];
    struct error err;

    (void)state;
    assert_int_equal(pin_source_version(source, first, sizeof(first), &err), ERROR_PIN);
    fixture_write_text(path, "1234");
    assert_int_equal(pin_source_version(source, first, sizeof(first), &err), ERROR_NONE);
    assert_int_equal(pin_source_version(source, second, sizeof(second), &err), ERROR_NONE);
    assert_string_equal(first, second);
    assert_int_equal(file_replace(path, "12345", 5, &err), ERROR_NONE);
    assert_int_equal(pin_source_version(source, second, sizeof(second), &err), ERROR_NONE);
    assert_string_not_equal(first, second);
    assert_int_equal(pin_source_version(constant, first, sizeof(first), &err), ERROR_NONE);
    assert_string_equal(first, "constant");
    pin_source_free(source);
    pin_source_free(constant);
}

static void environment_source(void **state)
{
    struct pin_source *source = make("env:", "TOKENTLS_TEST_PIN", -1);

    (void)state;
    expect_no_pin(source, "not set");
    assert_int_equal(setenv("TOKENTLS_TEST_PIN", "99887", 1), 0);
    expect_pin(source, "99887");
    assert_null(getenv("TOKENTLS_TEST_PIN"));
    expect_pin(source, "99887"); /* kept, because it cannot be read again */
    pin_source_free(source);
}

static void descriptor_source(void **state)
{
    struct pin_source *source;
    char number[16];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "5566\n", 5), 5);
    (void)close(ends[1]);
    (void)snprintf(number, sizeof(number), "%d", ends[0]);
    source = make("fd:", number, -1);
    expect_pin(source, "5566");
    expect_pin(source, "5566");
    assert_int_equal(fcntl(ends[0], F_GETFD), -1);
    pin_source_free(source);
    assert_int_equal(pipe(ends), 0);
    (void)close(ends[1]);
    source = make("env:", "TOKENTLS_TEST_PIN", ends[0]); /* handed over by a parent, and empty */
    expect_no_pin(source, "empty");
    expect_no_pin(source, "not set");
    pin_source_free(source);
}

static void credential_source(void **state)
{
    struct pin_source *source;
    struct error err;
    char first[96];

    (void)state;
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(pin_source_new("credential:pin3", -1, &source, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "LoadCredential"));
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", fixture_folder, 1), 0);
    assert_int_equal(pin_source_new("credential:../pin3", -1, &source, &err), ERROR_CONFIG);
    fixture_write_text(fixture_path("pin3"), "3344");
    source = make("credential:", "pin3", -1);
    expect_pin(source, "3344");
    /* systemd makes the file anew with each start of the service: that is no sign of another PIN */
    assert_int_equal(pin_source_version(source, first, sizeof(first), &err), ERROR_NONE);
    assert_string_equal(first, "constant");
    pin_source_free(source);
}

static void bad_sources(void **state)
{
    static const char *const bad[] = {"",          "1234",    "pinentry:",    "file:relative", "fd:x",
                                      "fd:-1",     "fd:1x",   "asknicely",    "env:",          "env:A=B",
                                      "file:",     "ask:",    "ask:relative", "pinentries",    "pinentry:x",
                                      "unlock:me", "pinpad:1"};
    struct pin_source *source = NULL;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (pin_source_new(bad[i], -1, &source, &err) != ERROR_CONFIG)
            fail_msg("\"%s\" was taken", bad[i]);
    assert_int_equal(pin_source_new("987654", -1, &source, &err), ERROR_CONFIG);
    assert_null(strstr(err.text, "987654"));
    assert_non_null(strstr(err.text, "file:PATH"));
    source = make("none", "", -1);
    expect_no_pin(source, "none");
    assert_false(pin_source_is_interactive(source));
    pin_source_free(source);
    source = make("ask", "", -1);
    assert_true(pin_source_is_interactive(source));
    pin_source_free(source);
}

static struct guard *begin(const char *token, const char *source)
{
    struct guard_key key = {fixture_path("state"), token, source};
    struct error err = ERROR_INIT;
    struct guard *guard;

    if (guard_begin(&key, &guard, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return guard;
}

static void expect_record(const char *token, const char *source, enum guard_record record)
{
    struct guard *guard = begin(token, source);

    assert_int_equal(guard_record(guard), record);
    guard_end(guard);
}

static void guard_life(void **state)
{
    struct guard *guard = begin("t1", "file:/p");
    struct guard_key key = {fixture_path("state"), "t1", "file:/p"};
    struct error err;

    (void)state;
    assert_int_equal(guard_record(guard), GUARD_NONE);
    assert_int_equal(guard_trying(guard, "v1", &err), ERROR_NONE);
    guard_end(guard); /* as after a crash: no result */
    guard = begin("t1", "file:/p");
    assert_int_equal(guard_record(guard), GUARD_FAILED);
    assert_string_equal(guard_version(guard), "v1");
    assert_non_null(strstr(guard_reason(guard), "cut short"));
    assert_int_equal(guard_trying(guard, "v2", &err), ERROR_NONE);
    assert_int_equal(guard_result(guard, false, "the PIN is wrong", &err), ERROR_NONE);
    guard_end(guard);
    guard = begin("t1", "file:/p");
    assert_string_equal(guard_version(guard), "v2");
    assert_string_equal(guard_reason(guard), "the PIN is wrong");
    assert_int_equal(guard_trying(guard, "v3", &err), ERROR_NONE);
    guard_restore(guard);
    guard_end(guard);
    guard = begin("t1", "file:/p");
    assert_string_equal(guard_version(guard), "v2");
    guard_end(guard);
    expect_record("t2", "file:/p", GUARD_NONE);
    expect_record("t1", "file:/q", GUARD_NONE);
    assert_int_equal(guard_clear(&key, &err), ERROR_NONE);
    guard = begin("t1", "file:/p");
    assert_int_equal(guard_record(guard), GUARD_CLEARED);
    assert_int_equal(guard_trying(guard, "v4", &err), ERROR_NONE);
    assert_int_equal(guard_result(guard, true, "", &err), ERROR_NONE);
    guard_end(guard);
    expect_record("t1", "file:/p", GUARD_NONE);
}

/* The path of the only record in the folder "state" that does not exist before; to be free()d by nobody. */
static const char *record_of(const char *token, const char *source)
{
    static char path[600];
    struct guard *guard = begin(token, source);
    struct error err;
    char command[700];
    FILE *pipe;

    assert_int_equal(guard_trying(guard, "v1", &err), ERROR_NONE);
    assert_int_equal(guard_result(guard, false, "the PIN is wrong", &err), ERROR_NONE);
    guard_end(guard);
    (void)snprintf(command, sizeof(command), "ls -t '%s'/state/pin-???????????????????????????????? | head -1",
                   fixture_folder);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(path, sizeof(path), pipe));
    assert_int_equal(pclose(pipe), 0);
    path[strcspn(path, "\n")] = '\0';
    return path;
}

/* Whatever part of it a power cut or somebody's editor has left: nothing is tried on the strength of it. */
static void damaged_records(void **state)
{
    struct guard_key key = {fixture_path("damage"), "t3", "file:/p"};
    char path[600];
    struct file_content content;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(rename(fixture_path("state"), fixture_path("state-before")) == 0 || errno == ENOENT, 1);
    (void)snprintf(path, sizeof(path), "%s", record_of("t3", "file:/p"));
    assert_int_equal(file_read(path, 10000, &content, &err), ERROR_NONE);
    for (size_t length = 0; length < content.length; length++) {
        fixture_write(path, content.data, length);
        expect_record("t3", "file:/p", GUARD_DAMAGED);
    }
    fixture_write(path, content.data, content.length);
    expect_record("t3", "file:/p", GUARD_FAILED);
    content.data[3] ^= 1;
    fixture_write(path, content.data, content.length);
    expect_record("t3", "file:/p", GUARD_DAMAGED);
    content.data[3] = '\0';
    fixture_write(path, content.data, content.length);
    expect_record("t3", "file:/p", GUARD_DAMAGED);
    assert_int_equal(truncate(path, 10000000), 0);
    expect_record("t3", "file:/p", GUARD_DAMAGED);
    key.state_directory = fixture_path("state");
    assert_int_equal(guard_clear(&key, &err), ERROR_NONE);
    expect_record("t3", "file:/p", GUARD_CLEARED);
    /* what cannot be read at all is no reason to try either */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    {
        struct guard *guard;

        assert_int_equal(guard_begin(&key, &guard, &err), ERROR_PIN);
        assert_non_null(strstr(err.text, path));
    }
    assert_int_equal(rmdir(path), 0);
    file_content_free(&content);
}

/* A record is for its owner's eyes, and so is the folder. */
static void records_are_private(void **state)
{
    struct stat status;
    const char *path = record_of("t4", "file:/p");
    char lock[700];

    (void)state;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    (void)snprintf(lock, sizeof(lock), "%s.lock", path);
    assert_int_equal(stat(lock, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(stat(fixture_path("state"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
}

static void unusable_state_directory(void **state)
{
    struct guard_key key = {fixture_path("loose"), "t", "s"};
    struct guard *guard;
    struct error err;

    (void)state;
    assert_int_equal(mkdir(fixture_path("loose"), 0700), 0);
    assert_int_equal(chmod(fixture_path("loose"), 0777), 0);
    assert_int_equal(guard_begin(&key, &guard, &err), ERROR_PIN);
    assert_non_null(strstr(err.text, "writable by group or others"));
    key.state_directory = "/dev/null/x";
    assert_int_equal(guard_begin(&key, &guard, &err), ERROR_PIN);
}

/* Each of several processes tries only when nobody has failed before: one of them does. */
static void one_of_many_processes(void **state)
{
    int ends[2], tries = 0;
    char byte;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < 6; i++) {
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            struct guard *guard = begin("t9", "file:/p");
            struct error err;

            if (guard_record(guard) == GUARD_NONE) {
                (void)!guard_trying(guard, "v", &err);
                (void)!write(ends[1], "x", 1);
                (void)!guard_result(guard, false, "wrong", &err);
            }
            guard_end(guard);
            _exit(0);
        }
    }
    (void)close(ends[1]);
    while (read(ends[0], &byte, 1) == 1)
        tries++;
    (void)close(ends[0]);
    while (wait(NULL) > 0)
        ;
    assert_int_equal(tries, 1);
}

/* What the child says on its standard output after it has asked at its terminal. */
static int answer_of(const char *typed, char *shown, size_t size)
{
    int master, ends[2], status = 0;
    size_t length = 0;
    ssize_t n;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = forkpty(&master, NULL, NULL, NULL);
    assert_true(child >= 0);
    if (child == 0) {
        struct pin_source *source = make("ask", "", -1);
        struct secret *secret = NULL;
        struct error err;
        struct pin_prompt prompt = {.token = "my token", .error = "wrong before", .tries = "few left"};
        result r = pin_source_get(source, &prompt, &secret, &err);

        if (r == ERROR_NONE)
            (void)!write(ends[1], secret_bytes(secret), secret_length(secret));
        secret_free(secret);
        pin_source_free(source);
        _exit((int)r);
    }
    (void)close(ends[1]);
    /* What is typed before the prompt is thrown away. */
    shown[0] = '\0';
    while (length < size - 1 && strstr(shown, "PIN of token \"my token\": ") == NULL &&
           (n = read(master, shown + length, size - 1 - length)) > 0) {
        length += (size_t)n;
        shown[length] = '\0';
    }
    assert_int_equal(write(master, typed, strlen(typed)), strlen(typed));
    assert_int_equal(waitpid(child, &status, 0), child);
    while (length < size - 1 && (n = read(master, shown + length, size - 1 - length)) > 0)
        length += (size_t)n;
    shown[length] = '\0';
    n = read(ends[0], shown + length + 1, size - length - 2);
    shown[length + 1 + (n > 0 ? (size_t)n : 0)] = '\0';
    (void)close(ends[0]);
    (void)close(master);
    return status;
}

static void asked_at_a_terminal(void **state)
{
    char shown[1024];
    int status = answer_of("314159\n", shown, sizeof(shown));

    (void)state;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == ERROR_NONE);
    assert_non_null(strstr(shown, "wrong before"));
    assert_non_null(strstr(shown, "few left"));
    assert_non_null(strstr(shown, "PIN of token \"my token\": "));
    assert_null(strstr(shown, "314159")); /* not echoed */
    assert_string_equal(shown + strlen(shown) + 1, "314159");
    status = answer_of("\n", shown, sizeof(shown));
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == ERROR_PIN);
    status = answer_of("31\003", shown, sizeof(shown)); /* control-C ends the process as ever */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static int stop(void **state)
{
    return fixture_stop(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_source),
        cmocka_unit_test(version_changes_with_the_file),
        cmocka_unit_test(environment_source),
        cmocka_unit_test(descriptor_source),
        cmocka_unit_test(credential_source),
        cmocka_unit_test(bad_sources),
        cmocka_unit_test(asked_at_a_terminal),
        cmocka_unit_test(guard_life),
        cmocka_unit_test(damaged_records),
        cmocka_unit_test(records_are_private),
        cmocka_unit_test(unusable_state_directory),
        cmocka_unit_test(one_of_many_processes),
    };

    return cmocka_run_group_tests(tests, fixture_make_folder, stop);
}
