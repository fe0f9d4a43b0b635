#include "net_test.h"

#include "daemon/file_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct scene {
    struct loop *loop;
    struct file_watch *watch;
    char folder[64];
    int calls;
    size_t id;
    char path[200];
    bool refuse;
};

static bool on_change(void *arg, size_t id, const char *path)
{
    struct scene *scene = arg;

    scene->calls++;
    scene->id = id;
    (void)snprintf(scene->path, sizeof(scene->path), "%s", path);
    return !scene->refuse;
}

static char *path_of(const struct scene *scene, const char *name, char out[200])
{
    (void)snprintf(out, 200, "%s/%s", scene->folder, name);
    return out;
}

static void write_file(const struct scene *scene, const char *name, const char *text)
{
    char path[200];
    FILE *file = fopen(path_of(scene, name, path), "w");

    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static void open_scene(struct scene *scene, bool poll_only)
{
    struct file_watch_config config = {
        .changed = on_change, .arg = scene, .poll_only = poll_only, .poll_ms = poll_only ? 20 : 0};
    struct error err = ERROR_INIT;
    char path[200];

    *scene = (struct scene){.loop = net_loop()};
    config.loop = scene->loop;
    strcpy(scene->folder, "/tmp/test_file_watch.XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    write_file(scene, "one", "one");
    write_file(scene, "other", "other");
    assert_int_equal(mkdir(path_of(scene, "d", path), 0700), 0);
    write_file(scene, "d/a", "a");
    write_file(scene, "d/.hidden", "hidden");
    scene->watch = file_watch_new(&config, &err);
    assert_non_null(scene->watch);
    assert_int_equal(file_watch_add(scene->watch, 1, path_of(scene, "one", path), true, &err), ERROR_NONE);
    assert_int_equal(file_watch_add(scene->watch, 2, path_of(scene, "d", path), true, &err), ERROR_NONE);
    assert_int_equal(file_watch_add(scene->watch, 3, path_of(scene, "absent", path), false, &err), ERROR_NONE);
}

static void close_scene(struct scene *scene)
{
    static const char *const names[] = {"one", "other", "absent", "new", "d/a", "d/b", "d/.hidden"};
    char path[200];

    file_watch_free(scene->watch);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)remove(path_of(scene, names[i], path));
    (void)rmdir(path_of(scene, "d", path));
    assert_int_equal(rmdir(scene->folder), 0);
    loop_free(scene->loop);
}

static void expect(struct scene *scene, size_t id, const char *name)
{
    char path[200];

    NET_UNTIL(scene->loop, scene->calls > 0);
    assert_int_equal(scene->calls, 1);
    assert_int_equal(scene->id, id);
    assert_string_equal(scene->path, path_of(scene, name, path));
    scene->calls = 0;
}

static void changes(bool poll_only)
{
    struct scene scene;
    char from[200], to[200];

    open_scene(&scene, poll_only);
    write_file(&scene, "one", "longer than before");
    expect(&scene, 1, "one");
    write_file(&scene, "new", "put in its place");
    assert_int_equal(rename(path_of(&scene, "new", from), path_of(&scene, "one", to)), 0);
    expect(&scene, 1, "one");
    write_file(&scene, "d/.hidden", "not looked at");
    write_file(&scene, "other", "nor is this");
    write_file(&scene, "d/b", "new in the folder");
    expect(&scene, 2, "d/b");
    assert_int_equal(remove(path_of(&scene, "d/a", to)), 0);
    write_file(&scene, "absent", "here it is");
    expect(&scene, 3, "absent");
    write_file(&scene, "d/a", "a");
    expect(&scene, 2, "d/a");
    close_scene(&scene);
}

static void test_hints(void **state)
{
    (void)state;
    changes(false);
}

static void test_polling(void **state)
{
    (void)state;
    changes(true);
}

/* A link that is turned to another file, as configuration management does it. */
static void test_link_is_turned(void **state)
{
    struct scene scene;
    struct error err = ERROR_INIT;
    char link[200], one[200], other[200], temporary[200];

    (void)state;
    open_scene(&scene, false);
    path_of(&scene, "absent", link);
    path_of(&scene, "new", temporary);
    assert_int_equal(symlink(path_of(&scene, "one", one), link), 0);
    expect(&scene, 3, "absent");
    assert_int_equal(symlink(path_of(&scene, "other", other), temporary), 0);
    assert_int_equal(rename(temporary, link), 0);
    expect(&scene, 3, "absent");
    assert_int_equal(err.category, ERROR_NONE);
    close_scene(&scene);
}

static void test_told_again_until_it_is_taken(void **state)
{
    struct scene scene;

    (void)state;
    open_scene(&scene, false);
    scene.refuse = true;
    write_file(&scene, "one", "longer than before");
    NET_UNTIL(scene.loop, scene.calls == 2);
    scene.refuse = false;
    NET_UNTIL(scene.loop, scene.calls == 3);
    scene.calls = 0;
    write_file(&scene, "d/b", "another");
    expect(&scene, 2, "d/b");
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_polling),
        cmocka_unit_test(test_link_is_turned),
        cmocka_unit_test(test_told_again_until_it_is_taken),
    };

    file_watch_free(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
