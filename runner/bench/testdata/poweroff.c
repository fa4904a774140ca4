/* The init of a bare guest: it powers off at once. */
#include <sys/reboot.h>

int main(void) {
	reboot(RB_POWER_OFF);
	return 0;
}
