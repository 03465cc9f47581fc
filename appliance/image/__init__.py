# SPDX-License-Identifier: Apache-2.0
"""From a Debian tree and the roles to a bootable, verified image, and to the one file that carries it into a site.

The nouns, in the order in which a build meets them:

* **tree**: an unpacked Debian. The *system tree* is what ships; the *tools tree* builds it and holds the kernel. Both are cached.
* **root**: the system tree with the roles applied, cleaned, as an erofs file, and **verity**, its hash tree. One *root hash* names both.
* **initrd** and **UKI**: kernel, initrd and kernel command line in one EFI program. The command line carries the root hash.
* **disk**: GPT with an EFI system partition, two slots (root and verity, A and B) and ``/var``. Slot B is empty.
* **manifest**: what a build made, with the SHA-256 of every file. It and every file are signed.
* **bundle**: image, wheels, roles, playbooks, collections and documents in one file with a signed manifest and a number that only grows.
"""
