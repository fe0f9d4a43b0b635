/* Feeds every file of a folder, and a few inputs that need no file, to a fuzzer built without libFuzzer. */
#include "base/file.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define INPUT_MAX (16 * 1024 * 1024) /* bytes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct file_content content;
    struct error err = ERROR_INIT;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
        return -1;
    if (file_read(path, INPUT_MAX, &content, &err) != ERROR_NONE) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    (void)LLVMFuzzerTestOneInput(content.data, content.length);
    file_content_free(&content);
    return 0;
}

int main(int argc, char **argv)
{
    static const uint8_t bytes[64];
    struct dirent *entry;
    int n = 0, failed = 0;
    DIR *folder;

    if (argc != 2)
        return 2;
    (void)LLVMFuzzerTestOneInput(bytes, 0);
    (void)LLVMFuzzerTestOneInput(bytes, sizeof(bytes));
    if ((folder = opendir(argv[1])) == NULL) {
        fprintf(stderr, "no seeds in %s\n", argv[1]);
        return 1;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        failed += replay_file(argv[1], entry->d_name) != 0;
        n++;
    }
    closedir(folder);
    printf("%d inputs replayed, %d unreadable\n", n, failed);
    return failed == 0 && n > 0 ? 0 : 1;
}
