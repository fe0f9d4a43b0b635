#include "pkcs11/keyholder/harden.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

result harden_forbid_dumps(struct error *err)
{
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};

    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return error_set_errno(err, errno, "cannot forbid core files");
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        return error_set_errno(err, errno, "cannot make the process undumpable");
    return ERROR_NONE;
}

result harden_process(struct error *err)
{
    if (harden_forbid_dumps(err) != ERROR_NONE)
        return err == NULL ? ERROR_IO : err->category;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "cannot give up gaining privileges");
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return error_set_errno(err, errno, "cannot be bound to the parent's life");
    (void)umask(077);
    return ERROR_NONE;
}
