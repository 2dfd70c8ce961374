// SPDX-License-Identifier: BSD-2-Clause
//
// Files.
#include "faults/common.h"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lwp::faults {

void work_files() {
	on_runtime(2, [] {
		char path[] = "/tmp/lwp-faults-XXXXXX";
		const int made_fd = ::mkostemp(path, O_CLOEXEC);
		MUST(made_fd >= 0);
		::close(made_fd);
		const int fd = lwp_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
		CHECK(fd >= 0);
		if (fd >= 0) {
			static char out[100'000];
			static char in[sizeof(out)];
			for (std::size_t i = 0; i < sizeof(out); i++) {
				out[i] = static_cast<char>(byte_at(i));
			}
			std::size_t put = 0;
			while (put < sizeof(out)) {
				const ssize_t n = lwp_pwrite(fd, out + put, sizeof(out) - put, static_cast<off_t>(put));
				if (n <= 0) {
					REFUSED("a pwrite");
					break;
				}
				put += static_cast<std::size_t>(n);
			}
			CHECK(lwp_fsync(fd) == 0);
			CHECK(lwp_fdatasync(fd) == 0);
			ssize_t n = lwp_pread(fd, in, put, 0);
			CHECK(n == static_cast<ssize_t>(put));
			MUST(n < 0 || std::memcmp(in, out, static_cast<std::size_t>(n)) == 0);
			iovec iov[2] = {{in, 100}, {in + 100, 100}};
			n = lwp_readv(fd, iov, 2);
			CHECK(n == 200);
			MUST(n < 0 || std::memcmp(in, out, static_cast<std::size_t>(n)) == 0);
			CHECK(lwp_writev(fd, iov, 2) == 200);
			n = lwp_read(fd, in, 100);
			CHECK(n == 100);
			CHECK(lwp_write(fd, in, 10) == 10);
			int ends[2];
			MUST(::pipe2(ends, O_CLOEXEC) == 0);
			off_t offset = 0;
			CHECK(lwp_sendfile(ends[1], fd, &offset, 5000) == 5000);
			close_it(ends[0]);
			close_it(ends[1]);
			close_it(fd);
		}
		attempt([&] {
			file f(path, {.write = true});
			MUST(f.size() >= 0);
			f.resize(10);
			(void)f.seek(0, SEEK_SET);
			f.write_all_at(2, const_bytes("xy", 2));
			char two[2];
			f.read_exactly_at(2, mutable_bytes(two, 2));
			MUST(two[0] == 'x' && two[1] == 'y');
			f.sync();
			f.sync_data();
		});
		::unlink(path);
	});
}

}  // namespace lwp::faults
