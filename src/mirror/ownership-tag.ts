/** How the tags are named under which Coral records, at a destination, what it wrote there. */
export const ownershipTagPattern = /^coral-mirror\.[0-9a-f]{16}$/;
